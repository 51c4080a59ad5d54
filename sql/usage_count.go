package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// Bounds of one transaction that adds what is recorded already to the totals.
const (
	countBatch     = 2000 // calls
	countRecording = 50   // transactions of an older program
)

// CountOld adds a bounded number of calls to the totals that older programs have recorded, and returns how many;
// 0: there are none left. Several may call it at once; one of them does the work.
func (s *Store) CountOld(ctx context.Context) (calls int, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		state, err := q.LockLedgerState(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // somebody else is at it
		}
		if err != nil {
			return err
		}
		if !state.Counted {
			if calls, err = countBefore(ctx, tx, state); err != nil || calls > 0 {
				return err
			}
		}
		calls, err = countSince(ctx, tx)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("add recorded calls to the totals: %w", err)
	}
	return calls, nil
}

// countBefore adds the next calls of before totals were kept. They are noted as recorded now, so that exports
// have them as well.
func countBefore(ctx context.Context, tx pgx.Tx, state db.LockLedgerStateRow) (int, error) {
	q := db.New(tx)
	rows, err := q.UncountedBefore(ctx, db.UncountedBeforeParams{Since: state.Since, AfterStart: state.CountedTo, AfterID: state.CountedID, Most: countBatch})
	if err != nil {
		return 0, err
	}
	if len(rows) == 0 {
		return 0, q.SetCounted(ctx, db.SetCountedParams{CountedTo: state.CountedTo, CountedID: state.CountedID, Counted: true})
	}
	starts, ids := make([]time.Time, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		starts[i], ids[i] = r.StartAt, r.CallID
	}
	if err := countCalls(ctx, tx, starts, ids); err != nil {
		return 0, err
	}
	last := rows[len(rows)-1]
	if err := q.SetCounted(ctx, db.SetCountedParams{CountedTo: last.StartAt, CountedID: last.CallID}); err != nil {
		return 0, err
	}
	// The number of this recording is taken under the lock that readers look at.
	if _, err := tx.Exec(ctx, lockRecordings); err != nil {
		return 0, err
	}
	return len(rows), q.NoteRecorded(ctx, db.NoteRecordedParams{Starts: starts, Calls: ids})
}

// countSince adds what an older program, beside this one, has recorded since.
func countSince(ctx context.Context, tx pgx.Tx) (calls int, err error) {
	q := db.New(tx)
	rows, err := q.UncountedRecordings(ctx, countRecording)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	var starts []time.Time
	var ids []string
	sequences := make([]int64, len(rows))
	for i, r := range rows {
		sequences[i], starts, ids = r.Sequence, append(starts, r.Starts...), append(ids, r.Calls...)
	}
	if err := countCalls(ctx, tx, starts, ids); err != nil {
		return 0, err
	}
	return len(ids), q.MarkCounted(ctx, sequences)
}

func countCalls(ctx context.Context, tx pgx.Tx, starts []time.Time, ids []string) error {
	found, err := readUsage(ctx, db.New(tx), starts, ids)
	if err != nil {
		return err
	}
	total := make(tally)
	for _, u := range found {
		total.call(u.Call)
	}
	return addOwnTotals(ctx, tx, byBackfill, total)
}
