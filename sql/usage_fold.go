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
			return tx.QueryRow(ctx, statement, before, foldBatch).Scan(&n)
		})
		rows += n
		if err != nil {
			return rows, fmt.Errorf("fold the totals of past hours: %w", err)
		}
		if n < foldBatch {
			return rows, nil
		}
	}
}

// foldSQL moves rows of gateways to one row for all, and adds them to the day's. It passes over rows that a gateway
// adds to at this moment.
func foldSQL() string {
	columns, sums := []string{"first_at", "last_at"}, []string{"min(first_at)", "max(last_at)"}
	change := []string{"first_at = least(h.first_at, excluded.first_at)", "last_at = greatest(h.last_at, excluded.last_at)"}
	for _, c := range totalColumns {
		columns, sums, change = append(columns, c), append(sums, "sum("+c+")"), append(change, c+" = h."+c+" + excluded."+c)
	}
	for _, m := range logos.Meters {
		for _, c := range meterColumns(m) {
			columns, sums = append(columns, c), append(sums, "nullif(sum("+c+"), 0)")
			change = append(change, c+" = nullif(coalesce(h."+c+", 0) + coalesce(excluded."+c+", 0), 0)")
		}
	}
	all, sum, update := strings.Join(columns, ", "), strings.Join(sums, ", "), strings.Join(change, ", ")
	return `with apart as (select hour, series_id, gateway, currency from usage_hours where gateway <> '' and hour < $1 order by hour limit $2 for update skip locked),
		gone as (delete from usage_hours h using apart a where h.hour = a.hour and h.series_id = a.series_id and h.gateway = a.gateway and h.currency = a.currency returning h.*),
		folded as (insert into usage_hours as h (hour, series_id, gateway, currency, ` + all + `)
			select hour, series_id, '', currency, ` + sum + ` from gone group by hour, series_id, currency order by hour, series_id, currency
			on conflict (hour, series_id, gateway, currency) do update set ` + update + `),
		daily as (insert into usage_days as h (day, series_id, currency, ` + all + `)
			select date_trunc('day', hour, 'UTC') as day, series_id, currency, ` + sum + ` from gone group by 1, 2, 3 order by 1, 2, 3
			on conflict (day, series_id, currency) do update set ` + update + `)
		select count(*) from gone`
}
