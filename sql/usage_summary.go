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

// maxSummaryLines bounds what is read for one, which may have a line for each of several currencies.
const maxSummaryLines = 5 * MaxSummaryRows

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

// forSums is how statements are planned that add up much: to compile one takes longer than to run it, and a plan for any
// time and zone is of neither.
const forSums = "select set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true), set_config('work_mem', '64MB', true)"

func summarize(ctx context.Context, tx pgx.Tx, in Scope, q SummaryQuery) ([]*SummaryRow, error) {
	if _, err := tx.Exec(ctx, forSums); err != nil {
		return nil, fmt.Errorf("summarize usage: %w", err)
	}
	if _, err := tx.Exec(ctx, "select now() at time zone $1", cmp.Or(q.Zone, "UTC")); err != nil {
		return nil, q.refused(err) // where there is no usage, nothing else looks at it
	}
	m := merger{q: q}
	var err error
	if m.buckets, err = q.begins(ctx, tx); err != nil {
		return nil, err
	}
	if m.meters, err = q.usedMeters(ctx, tx); err != nil {
		return nil, err
	}
	open, err := q.openHours(ctx, tx)
	if err != nil {
		return nil, err
	}
	statement, args, err := q.statement(in, m.buckets, open, m.meters)
	if err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, statement, args...)
	if err != nil {
		return nil, q.refused(err)
	}
	defer rows.Close()
	for lines := 1; rows.Next(); lines++ {
		if err := m.scan(rows); err != nil {
			return nil, err
		}
		if len(m.out) > MaxSummaryRows || lines == maxSummaryLines {
			return nil, logos.Errorf(logos.Invalid, "invalid_group_by", "there are more than %d groups: group by less, take a shorter time, or filter", MaxSummaryRows)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, q.refused(err)
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

// statement returns the statement, whose rows are of one group, bucket and currency.
func (q SummaryQuery) statement(in Scope, buckets, open []time.Time, meters []logos.Meter) (string, []any, error) {
	s := summing{SummaryQuery: q, buckets: buckets, open: open, args: arguments{q.From, q.To}}
	s.conditions = usageKind.confine(in, &s.args)
	filter, err := usageKind.filterSQL(q.Filter, &s.args)
	if err != nil {
		return "", nil, err
	}
	if filter != "" {
		s.conditions = append(s.conditions, filter)
	}
	s.teams = ofTeams(append(slices.Clone(q.By), s.conditions...))
	var parts []string
	if q.ofRecords() {
		parts = append(parts, s.sql(part{from: "(" + factsSQL + ") r", where: "true", at: "hour"}, factSums(meters)))
	} else {
		for _, p := range s.parts() {
			parts = append(parts, s.sql(p, totalSums(meters)))
		}
	}
	shown := []string{"g.*"}
	for _, d := range q.By {
		if name, ok := names[d]; ok {
			shown = append(shown, "coalesce(("+name+"), '')")
		}
	}
	groups := strings.Join(append([]string{"bucket", "currency"}, q.By...), ", ")
	return "select " + strings.Join(shown, ", ") + " from (select " + groups + ", " + selectSums(totalSums(meters)) + " from (" + strings.Join(parts, " union all ") + ") p group by " + groups +
		") g where " + something(meters) + " order by " + strings.Join(append([]string{"bucket"}, append(slices.Clone(q.By), "currency")...), ", ") + " limit " + s.args.add(maxSummaryLines), s.args, nil
}

// ofTeams says whether what is grouped by, and the conditions, leave out what the totals of teams have not got.
func ofTeams(expressions []string) bool {
	return !slices.ContainsFunc(expressions, func(e string) bool {
		return strings.Contains(e, "project_id") || strings.Contains(e, "api_key_id") || strings.Contains(e, "profile_id")
	})
}

// something is the condition that a row has anything: where hours are taken back from a day, nothing may be left.
func something(meters []logos.Meter) string {
	out := "g.calls <> 0 or g.attempts <> 0 or g.unknown <> 0 or g.cost <> 0 or g.adjusted <> 0"
	for _, m := range meters {
		out += " or g." + string(m) + " <> 0"
	}
	return "(" + out + ")"
}

// ofRecords says whether the calls themselves must be looked at.
func (q SummaryQuery) ofRecords() bool { return slices.Contains(q.By, "end_user") }

// begins returns when buckets begin, in order.
func (q SummaryQuery) begins(ctx context.Context, tx pgx.Tx) ([]time.Time, error) {
	if q.Bucket == "" {
		return nil, nil
	}
	rows, err := tx.Query(ctx, "select distinct date_trunc($1, hour, $2) as bucket from generate_series($3::timestamptz, $4::timestamptz - interval '1 hour', interval '1 hour') as hour order by bucket",
		q.Bucket, cmp.Or(q.Zone, "UTC"), q.From, q.To)
	if err != nil {
		return nil, q.refused(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, q.refused(err)
	}
	return out, nil
}

// usedMeters returns the meters that totals are of: to add up all others would take most of the time.
func (q SummaryQuery) usedMeters(ctx context.Context, tx pgx.Tx) (out []logos.Meter, err error) {
	if q.ofRecords() {
		return logos.Meters, nil
	}
	rows, err := tx.Query(ctx, "select meter from usage_meters")
	if err != nil {
		return nil, fmt.Errorf("read which meters are used: %w", err)
	}
	used, err := pgx.CollectRows(rows, pgx.RowTo[logos.Meter])
	for _, m := range logos.Meters {
		if slices.Contains(used, m) {
			out = append(out, m)
		}
	}
	return out, err
}

// A merger makes rows of a summary of those of the statement, which are of one currency.
type merger struct {
	q       SummaryQuery
	buckets []time.Time
	meters  []logos.Meter
	out     []*SummaryRow
}

// scanned is one row of the statement.
type scanned struct {
	bucket         int
	currency       string
	ids            []int64
	texts, names   []string
	counts         [3]int64
	cost, adjusted pgtype.Numeric
	meters         []pgtype.Numeric
}

func (m *merger) scan(rows pgx.Rows) error {
	r := scanned{ids: make([]int64, len(m.q.By)), texts: make([]string, len(m.q.By)), names: make([]string, len(m.q.By)), meters: make([]pgtype.Numeric, 4*len(m.meters))}
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
	into = append(into, &r.counts[0], &r.counts[1], &r.counts[2], &r.cost, &r.adjusted)
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
	row := &SummaryRow{IDs: make(map[string]int64), Texts: make(map[string]string)}
	if r.bucket > 0 {
		row.Start = m.buckets[r.bucket-1]
	}
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
	row.merge(r, m.meters)
}

func (row *SummaryRow) merge(r *scanned, meters []logos.Meter) {
	row.Calls, row.Attempts, row.Unknown = row.Calls+r.counts[0], row.Attempts+r.counts[1], row.Unknown+r.counts[2]
	if r.currency != "" {
		row.Costs = append(row.Costs, Cost{r.currency, amount(r.cost), amount(r.adjusted)})
	}
	for i, name := range meters {
		v := r.meters[4*i : 4*i+4]
		if v[0].Valid || v[1].Valid || v[2].Valid || v[3].Valid {
			row.meter(name).merge(r.currency, v)
		}
	}
	slices.SortStableFunc(row.Meters, func(a, b MeterSummary) int {
		return cmp.Compare(slices.Index(logos.Meters, a.Meter), slices.Index(logos.Meters, b.Meter))
	})
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
