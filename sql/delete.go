package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
)

// A child is a kind whose resources belong to one of another kind.
type child struct {
	kind   *Kind
	column string // of the child, that holds the parent
}

// A link is how resources that stay refer to one that is deleted. Its statements take the ids of those that
// are deleted.
type link struct {
	owner *Kind
	find  string // returns the ids of the owners
	cut   string // removes the references
}

// A guard refuses a deletion that would leave somebody with more than before.
type guard struct {
	find    string // returns the ids of those whom it would leave so, from the ids of what is deleted
	message string // %d: the first of them
}

// Delete marks a resource as deleted, with those that belong to it, and removes references to it from those
// that stay. Blockers must be gone before.
func (t *Tx) Delete(ctx context.Context, k *Kind, id int64) error {
	return t.deleteAll(ctx, k, []int64{id})
}

func (t *Tx) deleteAll(ctx context.Context, k *Kind, ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	if err := t.mayDelete(ctx, k, ids); err != nil {
		return err
	}
	return t.auditedAll(ctx, k, ids, func(ctx context.Context) error {
		for _, c := range k.children {
			children, err := t.ids(ctx, c.find(), ids)
			if err != nil {
				return err
			}
			if err := t.deleteAll(ctx, c.kind, children); err != nil {
				return err
			}
		}
		for _, l := range k.links {
			if err := t.cut(ctx, l, ids); err != nil {
				return err
			}
		}
		_, err := t.tx.Exec(ctx, "update "+k.table+" set deleted_at = now(), updated_at = now(), revision = $2 where id = any ($1)", ids, t.revision)
		for _, id := range ids {
			t.deleted = append(t.deleted, touchKey{k, id})
		}
		return err
	})
}

// A Deletion is a resource that a change has deleted, as it was before.
type Deletion struct {
	Kind   *Kind
	Before json.RawMessage
}

// Deleted returns what the change has deleted so far, in order.
func (t *Tx) Deleted() []Deletion {
	out := make([]Deletion, len(t.deleted))
	for i, key := range t.deleted {
		out[i] = Deletion{key.kind, t.touches[t.touched[key]].before}
	}
	return out
}

func (t *Tx) mayDelete(ctx context.Context, k *Kind, ids []int64) error {
	for _, b := range k.blockers {
		found, err := t.ids(ctx, b.find(), ids)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return logos.Errorf(logos.Conflict, "in_use", "the %s still has %s (%s %d): delete or move them first", k.Words(), words(b.kind.Plural()), b.kind.Words(), found[0])
		}
	}
	for _, g := range k.guards {
		found, err := t.ids(ctx, g.find, ids)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return logos.Errorf(logos.Conflict, "in_use", g.message, found[0])
		}
	}
	return nil
}

func (t *Tx) cut(ctx context.Context, l link, ids []int64) error {
	owners, err := t.ids(ctx, l.find, ids)
	if err != nil {
		return err
	}
	return t.auditedAll(ctx, l.owner, owners, func(ctx context.Context) error {
		_, err := t.tx.Exec(ctx, l.cut, ids)
		return err
	})
}

func (c child) find() string {
	return "select id from " + c.kind.table + " where " + c.column + " = any ($1) and deleted_at is null order by id"
}

func (t *Tx) ids(ctx context.Context, query string, of []int64) ([]int64, error) {
	rows, err := t.tx.Query(ctx, query, of)
	if err != nil {
		return nil, fmt.Errorf("find what belongs to it: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}
