package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// maxFindings bounds how many faults of one sort are listed for one day.
const maxFindings = 20

// A Finding is something in the ledger that does not add up.
type Finding struct {
	Check string // stable, e.g. "call_cost"
	What  string // for people, with ids
}

// Checked says what was looked at.
type Checked struct {
	From, To         time.Time
	Days, Calls      int64
	TotalsNotChecked bool // some calls of older programs are still to be added to them
}

// A check is a statement whose rows are faults among the calls that began from $1 on and before $2.
type check struct{ name, sql string }

const callName = "'call ' || c.call_id || ' of ' || to_char(c.start_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"

var recordChecks = []check{
	// One that was settled twice began at about the same time.
	{"call_outcome", `select 'call ' || call_id || ' has ' || count(*) || ' outcomes' from calls where start_at >= $1::timestamptz - interval '2 days' and start_at < $2::timestamptz + interval '2 days'
		group by call_id having count(*) > 1 and bool_or(start_at >= $1 and start_at < $2)`},
	// An attempt that nobody rated has no cost, as none of its meters has.
	{"attempt_cost", `select 'attempt ' || a.attempt || ' of call ' || a.call_id || ' costs ' || coalesce(trim_scale(a.cost)::text, 'unknown') || ', and its meters ' || case when m.open then 'unknown' else trim_scale(m.cost)::text end
		from attempts a left join lateral (select coalesce(sum(cost), 0) as cost, coalesce(bool_or(cost is null and quantity > 0), false) as open, count(cost) as priced from meters where start_at = a.start_at and call_id = a.call_id and attempt = a.attempt) m on true
		where a.start_at >= $1 and a.start_at < $2 and case when m.open then a.cost is not null when a.cost is null then m.priced > 0 else a.cost <> m.cost end`},
	{"call_cost", `select ` + callName + ` || ' costs ' || coalesce(trim_scale(c.cost)::text, 'unknown') || ', and its attempts ' || case when a.open then 'unknown' else trim_scale(a.cost)::text end
		from calls c left join lateral (select coalesce(sum(cost), 0) as cost, coalesce(bool_or(cost is null), false) or count(distinct currency) > 1 as open, count(*) as n from attempts where start_at = c.start_at and call_id = c.call_id) a on true
		where c.start_at >= $1 and c.start_at < $2 and case when a.open then c.cost is not null when c.cost is null then a.n > 0 else c.cost <> a.cost end`},
	{"currency", `select ` + callName + ` || ' is in ' || coalesce(c.currency, 'no currency') || ', and its attempts in ' || coalesce(a.currencies, 'none')
		from calls c left join lateral (select string_agg(distinct currency, ', ') as currencies, count(distinct currency) as n from attempts where start_at = c.start_at and call_id = c.call_id) a on true
		where c.start_at >= $1 and c.start_at < $2 and c.cost is not null and c.currency is distinct from a.currencies
		union all select 'attempt ' || a.attempt || ' of call ' || a.call_id || ' costs ' || trim_scale(a.cost) || ' in no currency' from attempts a where a.start_at >= $1 and a.start_at < $2 and a.cost <> 0 and a.currency is null`},
	{"negative", `select 'attempt ' || attempt || ' of call ' || call_id || ' has ' || quantity || ' of ' || meter || ' at ' || coalesce(trim_scale(cost)::text, 'unknown') from meters where start_at >= $1 and start_at < $2 and (quantity < 0 or cost < 0)
		union all select 'attempt ' || attempt || ' of call ' || call_id || ' costs ' || trim_scale(cost) from attempts where start_at >= $1 and start_at < $2 and cost < 0`},
	{"orphan", `select 'attempt ' || attempt || ' of call ' || call_id || ' has no call' from attempts a where start_at >= $1 and start_at < $2 and not exists (select from calls where start_at = a.start_at and call_id = a.call_id)
		union all select meter || ' of attempt ' || attempt || ' of call ' || call_id || ' has no attempt' from meters m where start_at >= $1 and start_at < $2 and not exists (select from attempts where start_at = m.start_at and call_id = m.call_id and attempt = m.attempt)
		union all select 'adjustment ' || id || ' is of call ' || call_id || ', which is not on record' from adjustments j where start_at >= $1 and start_at < $2 and not exists (select from calls where start_at = j.start_at and call_id = j.call_id)`},
	{"adjustment", `select 'adjustment ' || j.id || ' makes ' || j.meter || ' of attempt ' || j.attempt || ' of call ' || j.call_id || ' known, ' || case when count(m.meter) = 0 then 'which was not used' when bool_or(m.cost is not null) then 'which was' else 'as another does' end
		from adjustments j left join meters m on m.start_at = j.start_at and m.call_id = j.call_id and m.attempt = j.attempt and m.meter = j.meter
		where j.start_at >= $1 and j.start_at < $2 and j.makes_known
		group by j.start_at, j.id, j.meter, j.attempt, j.call_id
		having count(m.meter) = 0 or bool_or(m.cost is not null)
			or exists (select from adjustments o where o.start_at = j.start_at and o.call_id = j.call_id and o.attempt = j.attempt and o.meter = j.meter and o.makes_known and o.id < j.id)`},
}

// totalsCheck compares the totals with the records and adjustments that they are of, both ways.
func totalsCheck() check {
	key := append([]string{"hour"}, append(Dimensions[:len(Dimensions)-1:len(Dimensions)-1], "currency")...)
	keys := strings.Join(key, ", ")
	columns := make([]string, 0, 50)
	for _, s := range totalSums(logos.Meters) {
		columns = append(columns, s.column)
	}
	normal := make([]string, len(columns))
	for i, c := range columns {
		normal[i] = "coalesce(" + c + ", 0)::numeric as " + c
	}
	same := strings.Join(normal, ", ")
	return check{"totals", `with kept as (select ` + keys + `, ` + same + ` from (select ` + keys + `, ` + selectSums(totalSums(logos.Meters)) + ` from usage_hours h join usage_series s on s.id = h.series_id where hour >= $1 and hour < $2 group by ` + keys + `) x),
		worked as (select ` + keys + `, ` + same + ` from (select ` + keys + `, ` + selectSums(factSums(logos.Meters)) + ` from (` + factsSQL + `) f group by ` + keys + `) x),
		wrong as (select 'kept' as side, k.* from (select * from kept except select * from worked) k union all select 'of the records', w.* from (select * from worked except select * from kept) w)
		select 'the total of ' || to_char(hour at time zone 'UTC', 'YYYY-MM-DD"T"HH24"Z"') || ', project ' || project_id || ', API key ' || api_key_id || ', model ' || model_id || ', provider ' || provider_id || ', ' || end_reason
			|| ', in ' || coalesce(nullif(currency, ''), 'no currency') || ', that is ' || side || ': calls ' || calls || ', attempts ' || attempts || ', unknown ' || unknown || ', cost ' || trim_scale(cost) || ', adjusted ' || trim_scale(adjusted) || ', input ' || input || ', output ' || output
		from wrong order by ` + keys + `, side`}
}

// daysCheck compares the totals of days with those of their hours.
func daysCheck() check {
	columns := make([]string, 0, 50)
	for _, s := range totalSums(logos.Meters) {
		columns = append(columns, s.column)
	}
	list := strings.Join(columns, ", ")
	return check{"days", `with days as (select day, series_id, currency, ` + list + ` from usage_days where day >= $1 and day + interval '24 hours' <= $2),
		hours as (select date_trunc('day', hour, 'UTC') as day, series_id, currency, ` + selectSums(totalSums(logos.Meters)) + ` from usage_hours
			where gateway = '' and hour >= $1 and hour < $2 and date_trunc('day', hour, 'UTC') >= $1 and date_trunc('day', hour, 'UTC') + interval '24 hours' <= $2 group by 1, 2, 3)
		select 'the total of ' || to_char(day at time zone 'UTC', 'YYYY-MM-DD') || ' of series ' || series_id || ' is not that of its hours' from (
			(select * from days except select * from hours) union (select * from hours except select * from days)) x`}
}

// VerifyLedger looks for what does not add up in the records, adjustments and totals of a time. It takes one day after the
// other, each as it is at one moment, by whole hours; then the budgets. What retention has removed is not looked for.
func (s *Store) VerifyLedger(ctx context.Context, from, to time.Time, found func(Finding)) (Checked, error) {
	to = to.Add(time.Hour - 1).Truncate(time.Hour) // totals are of whole hours
	c := Checked{From: from.Truncate(time.Hour), To: to}
	state, err := db.New(s.pool).LedgerState(ctx)
	if err != nil {
		return c, fmt.Errorf("verify the ledger: %w", err)
	}
	if c.From.Before(state.RecordsFrom) {
		c.From = state.RecordsFrom
	}
	for next := c.From; ; {
		d, err := s.nextDay(ctx, next, to)
		if err != nil {
			return c, fmt.Errorf("verify the ledger: %w", err)
		}
		if d.IsZero() {
			break
		}
		if err := s.verifySome(ctx, maxTime(d, c.From), minTime(d.Add(day), to), &c, found); err != nil {
			return c, fmt.Errorf("verify the ledger of %s: %w", d.Format(time.DateOnly), err)
		}
		c.Days++
		next = d.Add(day)
	}
	if err := s.verifyCounters(ctx, from, to, state.RecordsFrom, found); err != nil {
		return c, fmt.Errorf("verify the counters of budgets: %w", err)
	}
	return c, nil
}

// nextDay returns the first day from a time on on which a call began, or of which anything else is kept.
func (s *Store) nextDay(ctx context.Context, from, to time.Time) (time.Time, error) {
	var first *time.Time
	err := s.pool.QueryRow(ctx, `select min(at) from (
		select min(start_at) as at from calls where start_at >= $1 and start_at < $2 union all select min(start_at) from attempts where start_at >= $1 and start_at < $2
		union all select min(start_at) from meters where start_at >= $1 and start_at < $2 union all select min(start_at) from adjustments where start_at >= $1 and start_at < $2
		union all select min(hour) from usage_hours where hour >= $1 and hour < $2 union all select min(day) from usage_days where day >= $1 and day < $2) x`, from, to).Scan(&first)
	if err != nil || first == nil {
		return time.Time{}, err
	}
	return first.UTC().Truncate(day), nil
}

func (s *Store) verifySome(ctx context.Context, from, to time.Time, c *Checked, found func(Finding)) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forSums); err != nil {
			return err
		}
		var calls int64
		if err := tx.QueryRow(ctx, "select count(*) from calls where start_at >= $1 and start_at < $2", from, to).Scan(&calls); err != nil {
			return err
		}
		c.Calls += calls
		checks := append(recordChecks[:len(recordChecks):len(recordChecks)], daysCheck())
		var open bool
		if err := tx.QueryRow(ctx, "select not counted or exists (select from recordings where not counted) from ledger_state").Scan(&open); err != nil {
			return err
		}
		if c.TotalsNotChecked = c.TotalsNotChecked || open; !open {
			checks = append(checks, totalsCheck())
		}
		for _, k := range checks {
			if err := k.run(ctx, tx, found, from, to); err != nil {
				return fmt.Errorf("check %s: %w", k.name, err)
			}
		}
		return nil
	})
}

func (k check) run(ctx context.Context, tx pgx.Tx, found func(Finding), args ...any) error {
	rows, err := tx.Query(ctx, k.sql+fmt.Sprintf(" limit %d", maxFindings+1), args...)
	if err != nil {
		return err
	}
	n := 0
	var what string
	_, err = pgx.ForEachRow(rows, []any{&what}, func() error {
		if n++; n > maxFindings {
			what = fmt.Sprintf("there are more than %d of these", maxFindings)
		}
		found(Finding{k.name, what})
		return nil
	})
	return err
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
