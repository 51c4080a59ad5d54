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

const (
	// foldAfter is when an hour counts as past. Later calls of it are folded as well, at the next time.
	foldAfter = 2 * time.Hour
	// foldBatch bounds the rows of one transaction.
	foldBatch = 5000
	// teamHours bounds the hours of which one transaction works out the totals of teams.
	teamHours = 24
	// foldLock has one fold at a time.
	foldLock = 0x6c6f676f77
)

// FoldUsage makes one row of those that several gateways have added to in an hour that is past. Totals stay as they
// are at every moment. Several may call it at once.
func (s *Store) FoldUsage(ctx context.Context, now time.Time) (rows int64, err error) {
	statement, before := foldSQL(), now.Add(-foldAfter).Truncate(time.Hour)
	for {
		var n int64
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			// Two that fold would wait for each other's rows in whatever order.
			if err := db.New(tx).LockLedger(ctx, foldLock); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "select set_config('logos.folds_searches', 'on', true)"); err != nil {
				return err
			}
			return tx.QueryRow(ctx, statement, before, foldBatch).Scan(&n)
		})
		rows += n
		if err != nil {
			return rows, fmt.Errorf("fold the totals of past hours: %w", err)
		}
		if n < foldBatch {
			return rows, s.sumTeams(ctx)
		}
	}
}

// foldSQL moves rows of gateways to one row for all, and adds them to the day's. It passes over rows that a gateway
// adds to at this moment.
func foldSQL() string {
	columns, sums := foldedColumns()
	change := []string{"first_at = least(h.first_at, excluded.first_at)", "last_at = greatest(h.last_at, excluded.last_at)"}
	for _, c := range totalColumns {
		change = append(change, c+" = h."+c+" + excluded."+c)
	}
	for _, m := range logos.Meters {
		for _, c := range meterColumns(m) {
			change = append(change, c+" = nullif(coalesce(h."+c+", 0) + coalesce(excluded."+c+", 0), 0)")
		}
	}
	all, sum, update := strings.Join(columns, ", "), strings.Join(sums, ", "), strings.Join(change, ", ")
	return `with apart as (select hour, series_id, gateway, currency from usage_hours where gateway <> '' and hour < $1 order by hour limit $2 for update skip locked),
		gone as (delete from usage_hours h using apart a where h.hour = a.hour and h.series_id = a.series_id and h.gateway = a.gateway and h.currency = a.currency returning h.*),
		folded as (insert into usage_hours as h (hour, series_id, gateway, currency, ` + all + `)
			select hour, series_id, '', currency, ` + sum + ` from gone h group by hour, series_id, currency order by hour, series_id, currency
			on conflict (hour, series_id, gateway, currency) do update set ` + update + `),
		daily as (insert into usage_days as h (day, series_id, currency, ` + all + `)
			select date_trunc('day', hour, 'UTC') as day, series_id, currency, ` + sum + ` from gone h group by 1, 2, 3 order by 1, 2, 3
			on conflict (day, series_id, currency) do update set ` + update + `)
		select count(*) from gone`
}

// foldedColumns returns the columns of totals but for their key, and how they are worked out of other totals.
func foldedColumns() (columns, sums []string) {
	columns, sums = []string{"first_at", "last_at"}, []string{"min(h.first_at)", "max(h.last_at)"}
	for _, c := range totalColumns {
		columns, sums = append(columns, c), append(sums, "sum(h."+c+")")
	}
	for _, m := range logos.Meters {
		for _, c := range meterColumns(m) {
			columns, sums = append(columns, c), append(sums, "nullif(sum(h."+c+"), 0)")
		}
	}
	return columns, sums
}

// sumTeams works out the totals of teams of all hours that are open.
func (s *Store) sumTeams(ctx context.Context) error {
	for {
		var hours []time.Time
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			if err := db.New(tx).LockLedger(ctx, foldLock); err != nil {
				return err
			}
			rows, err := tx.Query(ctx, "delete from usage_open_hours where hour in (select hour from usage_open_hours order by hour limit $1) returning hour", teamHours)
			if err != nil {
				return err
			}
			if hours, err = pgx.CollectRows(rows, pgx.RowTo[time.Time]); err != nil {
				return err
			}
			for _, statement := range teamSQL() {
				if _, err := tx.Exec(ctx, statement, hours); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("add up the totals of teams: %w", err)
		}
		if len(hours) < teamHours {
			return nil
		}
	}
}

// teamSQL returns the statements that work out the totals of teams of some hours anew.
func teamSQL() []string {
	const of = "team_id, model_id, provider_id, deployment_id, api, end_reason, service_tier"
	columns, sums := foldedColumns()
	return []string{
		"insert into usage_series (project_id, api_key_id, profile_id, " + of + ") select distinct 0, 0, 0, " + of + ` from usage_series
			where id in (select series_id from usage_hours where hour = any ($1::timestamptz[]) and gateway = '') on conflict (` + seriesColumns + `) do nothing`,
		"delete from usage_team_hours where hour = any ($1::timestamptz[])",
		"insert into usage_team_hours (hour, series_id, currency, " + strings.Join(columns, ", ") + ") select h.hour, t.id, h.currency, " + strings.Join(sums, ", ") + `
			from usage_hours h join usage_series r on r.id = h.series_id join (select id, ` + of + ` from usage_series where project_id = 0 and api_key_id = 0 and profile_id = 0) t using (` + of + `)
			where h.hour = any ($1::timestamptz[]) and h.gateway = '' group by h.hour, t.id, h.currency order by h.hour, t.id`,
	}
}
