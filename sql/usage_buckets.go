package store

import (
	"slices"
	"strings"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// totals returns the rows that are to be added up, with the bucket of each. Sums can be taken back, so days are read whole, in
// the bucket of their noon, also where another one begins in them: of a day's hours those that count elsewhere are then
// added there, and taken back here. That is less to read than all hours by far.
func (q SummaryQuery) totals(buckets []time.Time, meters []logos.Meter, args *arguments) string {
	columns := make([]string, 0, 50)
	for _, s := range totalSums(meters) {
		columns = append(columns, s.column)
	}
	of, minus := "series_id, currency, "+strings.Join(columns, ", "), "series_id, currency, -"+strings.Join(columns, ", -")
	bucket := func(string) string { return "0" }
	if q.Bucket != "" {
		begins := args.add(buckets)
		bucket = func(at string) string { return "width_bucket(" + at + ", " + begins + "::timestamptz[])" }
	}
	hours := "select " + bucket("hour") + " as bucket, " + of + " from usage_hours where hour >= $1 and hour < $2"
	if q.Bucket == "hour" {
		return hours
	}
	plus, back := q.moved(buckets)
	const noon = "day + interval '12 hours'"
	some := func(columns, at string, hours []time.Time) string {
		return " union all select " + bucket(at) + ", " + columns + " from usage_hours where hour = any (" + args.add(hours) + "::timestamptz[]) and gateway = ''"
	}
	return "select " + bucket(noon) + " as bucket, " + of + " from usage_days where " + noon + " >= $1 and " + noon + " < $2" +
		" union all " + hours + " and gateway <> ''" + some(of, "hour", plus) + some(minus, "date_trunc('day', hour, 'UTC') + interval '12 hours'", back)
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
