package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A summing is the statement of a summary while it is put together.
type summing struct {
	SummaryQuery
	buckets    []time.Time
	conditions []string // over r, the series or the record
	teams      bool     // nothing is asked of projects, API keys or profiles
	open       []time.Time
	args       arguments
}

// A part is some rows that are to be added up. Each part is added up by itself, and then all of them: so Postgres knows
// from its statistics how few groups there are, and need not sort what it adds up.
type part struct {
	from, where string
	at          string // the expression of the time that says in which bucket a row counts
	back        bool   // the rows are taken back
}

const withinHours = "hour >= $1 and hour < $2"

// parts returns the rows of totals that are to be added up. Sums can be taken back, so days are read whole, in the
// bucket of their noon, also where another one begins in them: of a day's hours those that count elsewhere are then
// added there, and taken back here. That is less to read than all hours by far.
func (s *summing) parts() []part {
	apart := part{from: "usage_hours", where: withinHours + " and gateway <> ''", at: "hour"}
	if s.Bucket == "hour" {
		return append(s.hours(part{where: withinHours, at: "hour"}, s.holds), apart)
	}
	const noon = "day + interval '12 hours'"
	out := []part{apart, {from: "usage_days", where: "day >= " + s.args.add(s.From.Add(-day/2)) + " and day < " + s.args.add(s.To.Add(-day/2)), at: noon}}
	plus, back := s.moved(s.buckets)
	return slices.Concat(out, s.these(plus, part{at: "hour"}), s.these(back, part{at: "date_trunc('day', hour, 'UTC') + interval '12 hours'", back: true}))
}

// these returns the part that some hours are.
func (s *summing) these(hours []time.Time, p part) []part {
	if len(hours) == 0 {
		return nil
	}
	p.where = "hour = any (" + s.args.add(hours) + "::timestamptz[])"
	return s.hours(p, func(at time.Time) bool { return slices.ContainsFunc(hours, at.Equal) })
}

// hours says where hours are read that are folded: from those of teams where that is enough, but for hours that are
// open, of which those have not got everything.
func (s *summing) hours(p part, among func(time.Time) bool) []part {
	all := p
	all.from, all.where = "usage_hours", p.where+" and gateway = ''"
	if !s.teams {
		return []part{all}
	}
	p.from = "usage_team_hours"
	open := slices.DeleteFunc(slices.Clone(s.open), func(at time.Time) bool { return !among(at) })
	if len(open) == 0 {
		return []part{p}
	}
	list := s.args.add(open) + "::timestamptz[]"
	p.where += " and hour <> all (" + list + ")"
	all.where = "hour = any (" + list + ") and gateway = ''"
	return []part{p, all}
}

// sql returns the statement that adds up the rows of a part, by bucket.
func (s *summing) sql(p part, sums []sum) string {
	bucket := "0"
	if s.Bucket != "" {
		bucket = "width_bucket(" + p.at + ", " + s.args.add(s.buckets) + "::timestamptz[])"
	}
	from, where := p.from, append([]string{p.where}, s.conditions...)
	if !s.ofRecords() && (len(s.By) > 0 || len(s.conditions) > 0) {
		from += " h join usage_series r on r.id = h.series_id"
	}
	sign, columns := "", make([]string, len(sums))
	if p.back {
		sign = "-"
	}
	for i, x := range sums {
		columns[i] = sign + x.of + " as " + x.column
	}
	groups := strings.Join(append([]string{"bucket", "currency"}, s.By...), ", ")
	return "select " + bucket + " as " + groups + ", " + strings.Join(columns, ", ") + " from " + from + " where " + strings.Join(where, " and ") + " group by " + groups
}

// openHours returns the hours of which those of teams have not got everything.
func (q SummaryQuery) openHours(ctx context.Context, tx pgx.Tx) ([]time.Time, error) {
	rows, err := tx.Query(ctx, "select hour from usage_open_hours where "+withinHours, q.From, q.To)
	if err != nil {
		return nil, fmt.Errorf("read which hours are open: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[time.Time])
}

// moved returns which hours count elsewhere than the noon of their day: those to be added to their own bucket, and
// those to be taken back from that of the noon.
func (q SummaryQuery) moved(buckets []time.Time) (plus, back []time.Time) {
	for _, d := range q.partedDays(buckets) {
		main, counts := bucketOf(d.Add(day/2), buckets), q.holds(d.Add(day/2))
		for h := d; h.Before(d.Add(day)); h = h.Add(time.Hour) {
			own, holds := bucketOf(h, buckets), q.holds(h)
			if holds == counts && (!holds || own == main) {
				continue
			}
			if holds {
				plus = append(plus, h)
			}
			if counts {
				back = append(back, h)
			}
		}
	}
	return plus, back
}

func (q SummaryQuery) holds(at time.Time) bool { return !at.Before(q.From) && at.Before(q.To) }

// partedDays returns the days in UTC in which a bucket begins, or the time that is asked about begins or ends.
func (q SummaryQuery) partedDays(buckets []time.Time) (out []time.Time) {
	for _, at := range append([]time.Time{q.From, q.To}, buckets...) {
		if d := at.UTC().Truncate(day); at.After(d) && !slices.ContainsFunc(out, d.Equal) {
			out = append(out, d)
		}
	}
	return out
}

// bucketOf returns the number of the bucket of a time, from 1, as width_bucket does; 0: there are none.
func bucketOf(at time.Time, buckets []time.Time) int {
	n, found := slices.BinarySearchFunc(buckets, at, time.Time.Compare)
	if found {
		n++
	}
	return n
}
