package store

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// Who adds to totals beside gateways, whose ids are longer.
const (
	byLedger   = "ledger"   // adjustments
	byBackfill = "backfill" // calls that older programs recorded
)

// maxSeries bounds how many series are remembered.
const maxSeries = 200_000

// A seriesBook remembers the ids of series, which never change.
type seriesBook struct {
	mu  sync.Mutex
	ids map[series]int64
}

// find returns the ids of the series of a tally, and makes those that are new in the transaction. It remembers
// none before that has ended: see keep.
func (b *seriesBook) find(ctx context.Context, tx pgx.Tx, t tally) (map[series]int64, error) {
	out := make(map[series]int64)
	var missing []series
	b.mu.Lock()
	for _, c := range t.cells() {
		if id, ok := b.ids[c.of]; ok {
			out[c.of] = id
		} else if _, asked := out[c.of]; !asked {
			out[c.of] = 0
			missing = append(missing, c.of)
		}
	}
	b.mu.Unlock()
	if len(missing) == 0 {
		return out, nil
	}
	if err := ensureSeries(ctx, tx, missing, out); err != nil {
		return nil, fmt.Errorf("find what usage is of: %w", err)
	}
	return out, nil
}

// keep remembers ids that are committed.
func (b *seriesBook) keep(ids map[series]int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ids == nil || len(b.ids)+len(ids) > maxSeries {
		b.ids = make(map[series]int64)
	}
	maps.Copy(b.ids, ids)
}

func (b *seriesBook) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids = nil
}

const seriesColumns = "team_id, project_id, api_key_id, profile_id, model_id, provider_id, deployment_id, api, end_reason, service_tier"

// ensureSeries sets the ids of series, and makes those that are not there.
func ensureSeries(ctx context.Context, db querier, all []series, ids map[series]int64) error {
	numbers, texts := make([][]int64, 7), make([][]string, 3)
	for _, s := range all {
		for i, n := range []int64{s.team, s.project, s.key, s.profile, s.model, s.provider, s.deployment} {
			numbers[i] = append(numbers[i], n)
		}
		for i, v := range []string{s.api, s.end, s.tier} {
			texts[i] = append(texts[i], v)
		}
	}
	args := make([]any, 0, 10)
	for _, n := range numbers {
		args = append(args, n)
	}
	for _, v := range texts {
		args = append(args, v)
	}
	const wanted = "unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[]) as u (" + seriesColumns + ")"
	// In one order, so that two that make the same ones wait for each other in turn.
	rows, err := db.Query(ctx, "insert into usage_series ("+seriesColumns+") select "+seriesColumns+" from "+wanted+" order by "+seriesColumns+" on conflict do nothing", args...)
	if err != nil {
		return err
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return err
	}
	if rows, err = db.Query(ctx, "select id, "+seriesColumns+" from usage_series join "+wanted+" using ("+seriesColumns+")", args...); err != nil {
		return err
	}
	var id int64
	var s series
	_, err = pgx.ForEachRow(rows, []any{&id, &s.team, &s.project, &s.key, &s.profile, &s.model, &s.provider, &s.deployment, &s.api, &s.end, &s.tier}, func() error {
		ids[s] = id
		return nil
	})
	return err
}

// meterColumns are the columns of one meter in usage_hours.
func meterColumns(m logos.Meter) []string {
	return []string{string(m), string(m) + "_estimated", string(m) + "_unpriced", string(m) + "_cost"}
}

// Columns of usage_hours that every row has, beside its key.
var totalColumns = []string{"calls", "attempts", "unknown", "cost", "adjusted"}

// addTotals adds a tally to the totals that are stored, in the transaction that stores what it is of.
func addTotals(ctx context.Context, tx db.DBTX, by string, t tally, ids map[series]int64) error {
	if len(t) == 0 {
		return nil
	}
	meters, used := t.meters(), t.used()
	if _, err := tx.Exec(ctx, addSQL(meters, used), totalArgs(by, t, ids, meters, used)...); err != nil {
		return fmt.Errorf("add to totals: %w", err)
	}
	return nil
}

func totalArgs(by string, t tally, ids map[series]int64, meters []logos.Meter, used [4]bool) []any {
	cells := t.cells()
	hours, of, currencies := make([]time.Time, len(cells)), make([]int64, len(cells)), make([]string, len(cells))
	var counts [3][]int64
	var sums [][]string
	var first, last []time.Time
	for i, c := range cells {
		x := t[c]
		hours[i], of[i], currencies[i] = time.Unix(c.hour, 0).UTC(), ids[c.of], c.currency
		for j, n := range []int64{x.calls, x.attempts, x.unknown} {
			counts[j] = append(counts[j], n)
		}
		values := []decimal.Decimal{x.cost, x.adjusted}
		for _, m := range meters {
			for k, v := range x.meters[m].values() {
				if used[k] {
					values = append(values, v)
				}
			}
		}
		if sums == nil {
			sums = make([][]string, len(values))
		}
		for j, v := range values {
			sums[j] = append(sums[j], v.String())
		}
		first, last = append(first, x.first), append(last, x.last)
	}
	args := []any{by, hours, of, currencies, first, last, counts[0], counts[1], counts[2]}
	for _, s := range sums {
		args = append(args, s)
	}
	return append(args, meters)
}

// addSQL is the statement that adds rows of totals with some meters, and those of their columns that are used.
func addSQL(meters []logos.Meter, used [4]bool) string {
	types := []string{"timestamptz", "bigint", "text", "timestamptz", "timestamptz", "bigint", "bigint", "bigint", "numeric", "numeric"}
	columns := append([]string{"hour", "series_id", "currency", "first_at", "last_at"}, totalColumns...)
	change := []string{"first_at = least(h.first_at, excluded.first_at)", "last_at = greatest(h.last_at, excluded.last_at)"}
	for _, c := range totalColumns {
		change = append(change, c+" = h."+c+" + excluded."+c)
	}
	values := append([]string(nil), columns...)
	for _, m := range meters {
		for k, c := range meterColumns(m) {
			if !used[k] {
				continue
			}
			types, columns, values = append(types, "numeric"), append(columns, c), append(values, "nullif("+c+", 0)")
			change = append(change, c+" = nullif(coalesce(h."+c+", 0) + coalesce(excluded."+c+", 0), 0)")
		}
	}
	arrays := make([]string, len(types))
	for i, t := range types {
		arrays[i] = fmt.Sprintf("$%d::%s[]", i+2, t)
		if t == "numeric" {
			arrays[i] = fmt.Sprintf("$%d::text[]::numeric[]", i+2)
		}
	}
	named := fmt.Sprintf("$%d::text[]", len(types)+2)
	return "with used as (insert into usage_meters (meter) select unnest(" + named + ") on conflict do nothing) insert into usage_hours as h (gateway, " + strings.Join(columns, ", ") + ") select $1::text, " + strings.Join(values, ", ") +
		" from unnest(" + strings.Join(arrays, ", ") + ") as u (" + strings.Join(columns, ", ") + ") order by hour, series_id, currency" +
		" on conflict (hour, series_id, gateway, currency) do update set " + strings.Join(change, ", ")
}
