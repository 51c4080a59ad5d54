package store

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
)

// A View is the resources at one moment.
type View struct{ tx pgx.Tx }

// View shows all resources at one moment.
func (s *Store) View(ctx context.Context, look func(context.Context, *View) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return look(ctx, &View{tx: tx})
	})
}

// Settings returns the settings' document.
func (v *View) Settings(ctx context.Context) (json.RawMessage, error) {
	return find(ctx, v.tx, settings, Scope{}, "true")
}

// Each calls f with the document of every resource of a kind that is there, and that a declaration can name.
func (v *View) Each(ctx context.Context, k *Kind, f func(json.RawMessage) error) error {
	return each(ctx, v.tx, k, f)
}

// Each calls f with the document of every resource of a kind that is there, and that a declaration can name, as
// the change sees it.
func (t *Tx) Each(ctx context.Context, k *Kind, f func(json.RawMessage) error) error {
	return each(ctx, t.tx, k, f)
}

// eachPage bounds how many documents are held at once.
const eachPage = 1000

func each(ctx context.Context, db querier, k *Kind, f func(json.RawMessage) error) error {
	q := Query{Size: eachPage, declared: true}
	for {
		page, err := list(ctx, db, k, Scope{}, q)
		if err != nil {
			return err
		}
		for _, doc := range page.Documents {
			if err := f(doc); err != nil {
				return err
			}
		}
		if q.Token = page.Next; q.Token == "" {
			return nil
		}
	}
}

// Revision is the one that the change makes.
func (t *Tx) Revision() int64 { return t.revision }
