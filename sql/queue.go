package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A queue takes statements that return nothing, and sends them together: what takes a round trip is the whole, not
// each. It is a db.DBTX, so that queries can be queued as they are.
type queue struct{ batch pgx.Batch }

// Exec queues a statement; how many rows it changes is not told.
func (q *queue) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	q.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

var errQueued = errors.New("a statement that returns rows can't be queued")

// Query refuses.
func (q *queue) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, errQueued }

// QueryRow refuses when the row is read.
func (q *queue) QueryRow(context.Context, string, ...any) pgx.Row { return noRow{} }

type noRow struct{}

func (noRow) Scan(...any) error { return errQueued }

// send runs what is queued, in order, and empties the queue.
func (q *queue) send(ctx context.Context, tx pgx.Tx) error {
	batch := q.batch
	q.batch = pgx.Batch{}
	if batch.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, &batch).Close()
}
