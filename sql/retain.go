package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

const (
	day = 24 * time.Hour
	// repeatableFor is how long a repeated request is recognised.
	repeatableFor = day
	// counterDays is for how long after its window a counter of a budget is kept.
	counterDays = 31
	// retainLock keeps several gateways from doing the same work at once.
	retainLock = 0x6c6f676f74 // the one after migrationLock
	// lockWait bounds how long calls can't be recorded because a partition waits to be dropped or made: not
	// even as long as Postgres takes to look for a deadlock.
	lockWait = "set local lock_timeout = '500ms'"
)

// Retained says what [Store.Retain] removed.
type Retained struct {
	Days                                      int   // of calls, by dropping their partitions
	Calls, AuditEvents, UnknownLines, Repeats int64 // rows
	Counters                                  int64 // of budgets, likewise
}

// Retain removes what is older than the settings keep it. Calls go by whole days in UTC: of a setting of n
// days, today and the n days before it stay. Several gateways may call it at once; one of them does the work.
func (s *Store) Retain(ctx context.Context, now time.Time) (r Retained, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return r, fmt.Errorf("retain: %w", err)
	}
	defer conn.Release()
	var mine bool
	if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", retainLock).Scan(&mine); err != nil || !mine {
		return r, err
	}
	defer func() {
		_, _ = conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", retainLock)
	}()
	keep, err := db.New(conn).Retention(ctx)
	if err != nil {
		return r, fmt.Errorf("read how long to keep records: %w", err)
	}
	for _, step := range []struct {
		days   int32 // 0: for ever
		remove func(before time.Time) error
	}{
		{keep.CallRetentionDays, func(before time.Time) error { return s.removeCalls(ctx, conn.Conn(), before.UTC().Truncate(day), &r) }},
		{keep.AuditRetentionDays, func(before time.Time) (err error) {
			r.AuditEvents, err = expire(ctx, conn.Conn(), "audit_events", "at", before)
			return err
		}},
		{keep.UnknownLineRetentionDays, func(before time.Time) (err error) {
			r.UnknownLines, err = expire(ctx, conn.Conn(), "unknown_lines", "read_at", before)
			return err
		}},
		{int32(repeatableFor / day), func(before time.Time) (err error) {
			r.Repeats, err = expire(ctx, conn.Conn(), "idempotent_requests", "at", before)
			return err
		}},
		{counterDays, func(before time.Time) (err error) {
			if _, err = expire(ctx, conn.Conn(), "budget_shares", "window_end", before); err == nil {
				r.Counters, err = expire(ctx, conn.Conn(), "budget_counters", "window_end", before)
			}
			return err
		}},
	} {
		if step.days == 0 {
			continue
		}
		if err := step.remove(now.AddDate(0, 0, -int(step.days))); err != nil {
			return r, err
		}
	}
	return r, nil
}

// removeCalls removes the calls that began before a day, with their attempts, meters and adjustments. Totals stay.
func (s *Store) removeCalls(ctx context.Context, conn *pgx.Conn, before time.Time, r *Retained) error {
	if err := db.New(conn).KeepRecordsFrom(ctx, before); err != nil {
		return fmt.Errorf("note since when calls are on record: %w", err)
	}
	days, err := partitionDays(ctx, conn)
	if err != nil {
		return err
	}
	for _, d := range days {
		if !d.Before(before) {
			continue
		}
		if err := dropDay(ctx, conn, d); err != nil {
			return fmt.Errorf("drop the calls of %s: %w", d.Format(time.DateOnly), err)
		}
		r.Days++
		s.log.Info("dropped the calls of a day, which are not to be kept longer", zap.String("day", d.Format(time.DateOnly)))
	}
	for _, old := range []struct{ table, column string }{{"adjustments_rest", "start_at"}, {"meters_rest", "start_at"}, {"attempts_rest", "start_at"}, {"recordings", "recorded_at"}} {
		if _, err := expire(ctx, conn, old.table, old.column, before); err != nil {
			return err
		}
	}
	r.Calls, err = expire(ctx, conn, "calls_rest", "start_at", before)
	return err
}

const partitionFormat = "20060102"

// partitionDays returns the days of which calls have a partition.
func partitionDays(ctx context.Context, conn *pgx.Conn) ([]time.Time, error) {
	rows, err := conn.Query(ctx, "select relname::text from pg_inherits join pg_class on oid = inhrelid where inhparent = 'calls'::regclass order by 1")
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	var days []time.Time
	for _, name := range names {
		if d, err := time.Parse("calls_"+partitionFormat, name); err == nil { // else it is the default partition
			days = append(days, d)
		}
	}
	return days, nil
}

// dropDay drops the partitions of one day. Whoever reads or records calls takes the same tables in this
// order, so that none waits for the other.
func dropDay(ctx context.Context, conn *pgx.Conn, d time.Time) error {
	suffix := "_" + d.Format(partitionFormat)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, strings.Join([]string{
			lockWait,
			"lock table only calls, only attempts, only meters, only adjustments in access exclusive mode",
			"drop table if exists calls" + suffix + ", attempts" + suffix + ", meters" + suffix + ", adjustments" + suffix,
		}, ";"))
		return err
	})
}

// expire deletes old rows, in transactions that are short.
func expire(ctx context.Context, conn *pgx.Conn, table, column string, before time.Time) (n int64, err error) {
	statement := fmt.Sprintf("delete from %[1]s where ctid = any (array(select ctid from %[1]s where %[2]s < $1 limit $2))", table, column)
	for {
		var batch int64
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if err := db.New(tx).AllowErasing(ctx); err != nil {
				return err
			}
			done, err := tx.Exec(ctx, statement, before, eraseBatch)
			batch = done.RowsAffected()
			return err
		})
		n += batch
		if err != nil {
			return n, fmt.Errorf("delete old rows of %s: %w", table, err)
		}
		if batch < eraseBatch {
			return n, nil
		}
	}
}
