package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// MaxSummaryRows bounds what one summary returns.
const MaxSummaryRows = 10_000

// Dimensions of usage, in the order in which they are shown. End users are one of records alone: see
// [SummaryQuery].
var Dimensions = []string{"team_id", "project_id", "api_key_id", "profile_id", "model_id", "provider_id", "deployment_id", "api", "end_reason", "service_tier", "end_user"}

// Buckets of time.
var Buckets = []string{"hour", "day", "week", "month"}

// usageKind says what filters over usage may name.
var usageKind = &Kind{
	Name: "usage", bare: true,
	fields: []field{
		{"team_id", "r.team_id", integer}, {"project_id", "r.project_id", integer}, {"api_key_id", "r.api_key_id", integer}, {"profile_id", "r.profile_id", integer},
		{"model_id", "r.model_id", integer}, {"provider_id", "r.provider_id", integer}, {"deployment_id", "r.deployment_id", integer},
		{"api", "r.api", text}, {"end_reason", "r.end_reason", text}, {"service_tier", "r.service_tier", text},
		{"team", "(select name from teams where id = r.team_id)", text}, {"project", "(select name from projects where id = r.project_id)", text},
		{"model", "(select name from models where id = r.model_id)", text}, {"provider", "(select name from providers where id = r.provider_id)", text},
	},
	within: reach{
		team: "r.team_id = @", project: "r.project_id = @",
		member: "r.api_key_id in (select id from api_keys where member_id = @)",
	},
}

// names are how ids of dimensions are shown.
var names = map[string]string{
	"team_id": "select name from teams where id = g.team_id", "project_id": "select name from projects where id = g.project_id",
	"api_key_id": "select name from api_keys where id = g.api_key_id", "profile_id": "select name from profiles where id = g.profile_id",
	"model_id": "select name from models where id = g.model_id", "provider_id": "select name from providers where id = g.provider_id",
	"deployment_id": "select m.name || ' at ' || p.name || case when d.name = '' then '' else ' (' || d.name || ')' end from deployments d join models m on m.id = d.model_id join providers p on p.id = d.provider_id where d.id = g.deployment_id",
}

// A SummaryQuery is what usage is to be added up of.
type SummaryQuery struct {
	From, To time.Time // of the start of calls, To excluded; whole hours in UTC
	By       []string  // some of Dimensions
	Bucket   string    // one of Buckets; empty: all of the time together
	Zone     string    // in which buckets begin; empty: UTC
	Filter   string    // in the syntax of AIP-160, over the dimensions
}

// A SummaryRow is what was used by one group in one bucket.
type SummaryRow struct {
	Start                    time.Time         // of the bucket; zero: there are none
	IDs                      map[string]int64  // by dimension
	Texts                    map[string]string // likewise; for ids, their names
	Calls, Attempts, Unknown int64
	Costs                    []Cost // by currency
	Meters                   []MeterSummary
	First, Last              time.Time
}

// A Cost is an amount in a currency, and the part of it that adjustments make.
type Cost struct {
	Currency           string
	Amount, Adjustment decimal.Decimal
}

// A MeterSummary is what was used of one meter.
type MeterSummary struct {
	Meter                         logos.Meter
	Quantity, Estimated, Unpriced decimal.Decimal
	Costs                         []Cost // without adjustments that are of no single meter
}

// Summarize adds up usage by the totals of hours; by end user, from the records themselves. What a time zone has beside
// whole hours counts to the bucket in which its hour begins.
func (s *Store) Summarize(ctx context.Context, in Scope, q SummaryQuery) (out []*SummaryRow, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		out, err = summarize(ctx, tx, in, q)
		return err
	})
	return out, err
}

func summarize(ctx context.Context, tx pgx.Tx, in Scope, q SummaryQuery) ([]*SummaryRow, error) {
	if _, err := tx.Exec(ctx, "select now() at time zone $1", cmp.Or(q.Zone, "UTC")); err != nil {
		return nil, q.refused(err) // where there is no usage, nothing else looks at it
	}
	statement, args, err := q.sql(in)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, statement, args...)
	if err != nil {
		return nil, q.refused(err)
	}
	m := merger{q: q}
	for rows.Next() {
		if err := m.scan(rows); err != nil {
			rows.Close()
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, q.refused(err)
	}
	if len(m.out) > MaxSummaryRows {
		return nil, logos.Errorf(logos.Invalid, "invalid_group_by", "there are more than %d groups: group by less, take a shorter time, or filter", MaxSummaryRows)
	}
	return m.out, nil
}

// refused tells a wrong query from failures.
func (q SummaryQuery) refused(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "22023" {
		return logos.Errorf(logos.Invalid, "invalid_time_zone", "it is not known: it must be a name like Europe/Berlin, or empty for UTC")
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pg.Code, "22") {
		return badFilter("it holds a value that can't be compared")
	}
	return fmt.Errorf("summarize usage: %w", err)
}

// sql returns the statement, whose rows are of one group, bucket and currency.
func (q SummaryQuery) sql(in Scope) (string, []any, error) {
	args := arguments{q.From, q.To}
	conditions := usageKind.confine(in, &args)
	filter, err := usageKind.filterSQL(q.Filter, &args)
	if err != nil {
		return "", nil, err
	}
	if filter != "" {
		conditions = append(conditions, filter)
	}
	where := strings.Join(append(conditions, "true"), " and ")
	source := q.totals(where)
	if slices.Contains(q.By, "end_user") {
		source = q.facts(where)
	}
	// The bucket of each hour is worked out once, as time zones are slow.
	with := fmt.Sprintf("with b as materialized (select hour, date_trunc(%s::text, hour, %s::text) as bucket from generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', interval '1 hour') as hour)",
		args.add(cmp.Or(q.Bucket, "hour")), args.add(cmp.Or(q.Zone, "UTC")))
	groups := append([]string{"bucket", "currency"}, q.By...)
	outer := make([]string, 0, len(q.By)+1)
	for _, d := range q.By {
		if name, ok := names[d]; ok {
			outer = append(outer, "coalesce(("+name+"), '')")
		}
	}
	by := strings.Join(groups, ", ")
	return with + " select " + strings.Join(append([]string{"g.*"}, outer...), ", ") + " from (select " + by + ", " + selectSums(totalSums()) + " from (" + source + ") x group by " + by +
		") g order by " + strings.Join(append([]string{"bucket"}, append(q.By, "currency")...), ", ") + " limit " + args.add(3*MaxSummaryRows), args, nil
}

// bucketed returns the expression of a row's bucket, and the join that it needs.
func (q SummaryQuery) bucketed(hour string) (expr, join string) {
	if q.Bucket == "" {
		return "null::timestamptz", ""
	}
	return "b.bucket", " join b on b.hour = " + hour
}

// totals adds up by series first, whose numbers are small, and then finds what they are of.
func (q SummaryQuery) totals(where string) string {
	bucket, join := q.bucketed("h.hour")
	series := ""
	if where != "true" {
		series = " and h.series_id in (select r.id from usage_series r where " + where + ")"
	}
	sums := make([]string, 0, 50)
	for _, s := range totalSums() {
		sums = append(sums, "x."+s.column)
	}
	return "select x.bucket, x.currency, s.*, " + strings.Join(sums, ", ") + " from (select " + bucket + " as bucket, h.series_id, h.currency, " + selectSums(totalSums()) +
		" from usage_hours h" + join + " where h.hour >= $1 and h.hour < $2" + series + " group by 1, 2, 3) x join usage_series s on s.id = x.series_id"
}

// facts adds up the records themselves.
func (q SummaryQuery) facts(where string) string {
	bucket, join := q.bucketed("r.hour")
	dims := "r." + strings.Join(Dimensions, ", r.")
	return "select " + bucket + " as bucket, r.currency, " + dims + ", " + selectSums(factSums()) + " from (" + factsSQL + ") r" + join + " where " + where + " group by 1, 2, " + dims
}

// A merger makes rows of a summary of those of the statement, which are of one currency.
type merger struct {
	q   SummaryQuery
	out []*SummaryRow
}

// scanned is one row of the statement.
type scanned struct {
	bucket         *time.Time
	currency       string
	ids            []int64
	texts, names   []string
	counts         [3]int64
	cost, adjusted pgtype.Numeric
	first, last    time.Time
	meters         []pgtype.Numeric
}

func (m *merger) scan(rows pgx.Rows) error {
	r := scanned{ids: make([]int64, len(m.q.By)), texts: make([]string, len(m.q.By)), names: make([]string, len(m.q.By)), meters: make([]pgtype.Numeric, 4*len(logos.Meters))}
	into := []any{&r.bucket, &r.currency}
	var named []any
	for i, d := range m.q.By {
		switch {
		case !strings.HasSuffix(d, "_id"):
			into = append(into, &r.texts[i])
		default:
			into, named = append(into, &r.ids[i]), append(named, &r.names[i])
		}
	}
	into = append(into, &r.counts[0], &r.counts[1], &r.counts[2], &r.cost, &r.adjusted, &r.first, &r.last)
	for i := range r.meters {
		into = append(into, &r.meters[i])
	}
	if err := rows.Scan(append(into, named...)...); err != nil {
		return fmt.Errorf("summarize usage: %w", err)
	}
	m.add(&r)
	return nil
}

// add merges a row into that of its group, which comes right before if there is one.
func (m *merger) add(r *scanned) {
	row := &SummaryRow{Start: zero(r.bucket), IDs: make(map[string]int64), Texts: make(map[string]string), First: r.first, Last: r.last}
	for i, d := range m.q.By {
		if strings.HasSuffix(d, "_id") {
			row.IDs[d], row.Texts[d] = r.ids[i], r.names[i]
		} else {
			row.Texts[d] = r.texts[i]
		}
	}
	if n := len(m.out); n > 0 && m.out[n-1].Start.Equal(row.Start) && maps.Equal(m.out[n-1].IDs, row.IDs) && maps.Equal(m.out[n-1].Texts, row.Texts) {
		row = m.out[n-1]
	} else {
		m.out = append(m.out, row)
	}
	row.merge(r)
}

func (row *SummaryRow) merge(r *scanned) {
	row.Calls, row.Attempts, row.Unknown = row.Calls+r.counts[0], row.Attempts+r.counts[1], row.Unknown+r.counts[2]
	if r.first.Before(row.First) {
		row.First = r.first
	}
	if r.last.After(row.Last) {
		row.Last = r.last
	}
	if r.currency != "" {
		row.Costs = append(row.Costs, Cost{r.currency, amount(r.cost), amount(r.adjusted)})
	}
	for i, name := range logos.Meters {
		v := r.meters[4*i : 4*i+4]
		if v[0].Valid || v[1].Valid || v[2].Valid || v[3].Valid {
			row.meter(name).merge(r.currency, v)
		}
	}
}

func (row *SummaryRow) meter(m logos.Meter) *MeterSummary {
	for i := range row.Meters {
		if row.Meters[i].Meter == m {
			return &row.Meters[i]
		}
	}
	row.Meters = append(row.Meters, MeterSummary{Meter: m})
	return &row.Meters[len(row.Meters)-1]
}

func (m *MeterSummary) merge(currency string, v []pgtype.Numeric) {
	m.Quantity, m.Estimated, m.Unpriced = m.Quantity.Add(amount(v[0])), m.Estimated.Add(amount(v[1])), m.Unpriced.Add(amount(v[2]))
	if currency != "" {
		m.Costs = append(m.Costs, Cost{Currency: currency, Amount: amount(v[3])})
	}
}
