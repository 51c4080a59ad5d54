package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// Call returns the record of one call that is within a scope, with its attempts and meters.
func (s *Store) Call(ctx context.Context, in Scope, id logos.CallID) (*logos.Call, error) {
	q := db.New(s.pool)
	args := arguments{string(id)}
	conditions := append([]string{"r.call_id = $1"}, Calls.confine(in, &args)...)
	var row db.Call
	var start time.Time
	err := s.pool.QueryRow(ctx, "select r.start_at from calls r where "+strings.Join(conditions, " and ")+" order by r.start_at desc limit 1", args...).Scan(&start)
	if err == nil {
		row, err = q.Call(ctx, db.CallParams{StartAt: start, CallID: string(id)})
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, logos.Errorf(logos.NotFound, "not_found", "there is no call %s: a call is recorded a moment after it ended", id)
	}
	if err != nil {
		return nil, fmt.Errorf("read call: %w", err)
	}
	c := &logos.Call{
		ID: id, Gateway: row.Gateway, Method: row.Method, Status: int(zero(row.Status)), End: logos.EndReason(row.EndReason),
		Duration: micros(row.DurationUs), FirstByte: micros(zero(row.FirstByteUs)),
		RequestBytes: row.RequestBytes, AnswerBytes: row.AnswerBytes, ServiceTier: row.ServiceTier,
		Error: logos.CallError{Code: row.ErrorCode, Type: row.ErrorType, Message: row.ErrorMessage},
	}
	if err := json.Unmarshal(row.Decision, &c.Decision); err != nil {
		return nil, fmt.Errorf("read the decision of call %s: %w", id, err)
	}
	attempts, err := q.Attempts(ctx, db.AttemptsParams{StartAt: row.StartAt, CallID: row.CallID})
	if err != nil {
		return nil, fmt.Errorf("read attempts: %w", err)
	}
	for _, a := range attempts {
		c.Attempts = append(c.Attempts, readAttempt(&a))
	}
	meters, err := q.Meters(ctx, db.MetersParams{StartAt: row.StartAt, CallID: row.CallID})
	if err != nil {
		return nil, fmt.Errorf("read meters: %w", err)
	}
	for _, m := range meters {
		for i := range c.Attempts {
			if a := &c.Attempts[i]; a.Number == int(m.Attempt) {
				l := readLine(&m)
				a.Meters, a.Charge.Lines = append(a.Meters, l.MeterReading), append(a.Charge.Lines, l)
				if l.Price == nil && l.Quantity > 0 {
					a.Charge.Missing = append(a.Charge.Missing, l.Meter)
				}
			}
		}
	}
	for i, a := range attempts {
		if !a.Cost.Valid && c.Attempts[i].Charge.Version() == 0 {
			c.Attempts[i].Charge = nil // nobody has rated it, or there was no price at all
		}
	}
	return c, nil
}

// readCharge returns what an attempt cost, without its lines.
func readCharge(a *db.Attempt) *logos.Charge {
	return &logos.Charge{Total: amount(a.Cost), Currency: a.Currency.String}
}

func readLine(m *db.MetersRow) logos.ChargeLine {
	l := logos.ChargeLine{
		MeterReading: logos.MeterReading{Meter: logos.Meter(m.Meter), Quantity: m.Quantity, Estimated: m.Estimated},
		Cost:         amount(m.Cost),
	}
	if m.PriceVersion != nil {
		l.Price = &logos.Price{Version: *m.PriceVersion}
	}
	return l
}

// amount returns a stored number as it is; null is 0.
func amount(n pgtype.Numeric) decimal.Decimal {
	if !n.Valid || n.Int == nil {
		return decimal.Zero
	}
	return decimal.NewFromBigInt(n.Int, n.Exp)
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// EnsurePartitions makes the daily partitions of the coming days. Days that rows of the default partition
// belong to already are left out.
func (s *Store) EnsurePartitions(ctx context.Context, now time.Time, days int) error {
	for _, table := range []string{"calls", "attempts", "meters", "adjustments"} {
		for i := range days {
			from := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, i)
			name := table + "_" + from.Format("20060102")
			if err := s.ensurePartition(ctx, table, name, from, from.AddDate(0, 0, 1)); err != nil {
				return fmt.Errorf("make partition %s: %w", name, err)
			}
		}
	}
	return nil
}

func (s *Store) ensurePartition(ctx context.Context, table, name string, from, to time.Time) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", migrationLock); err != nil {
			return err
		}
		var exists, taken bool
		if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", name).Scan(&exists); err != nil || exists {
			return err
		}
		if err := tx.QueryRow(ctx, "select exists (select from "+table+"_rest where start_at >= $1 and start_at < $2)", from, to).Scan(&taken); err != nil || taken {
			return err
		}
		// The statement takes the whole table for itself. Behind a long reader, as of a backup, it would wait, and
		// all that records calls behind it.
		if _, err := tx.Exec(ctx, lockWait); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, fmt.Sprintf("create table %s partition of %s for values from ('%s') to ('%s')",
			name, table, from.Format(time.RFC3339), to.Format(time.RFC3339)))
		return err
	})
}
