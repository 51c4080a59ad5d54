package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// A Rotation says what [Store.Rekey] did.
type Rotation struct {
	From, To    string // ids of master keys
	Credentials int    // whose data key was wrapped anew
}

// Rekey puts the database under the first master key: it wraps the hash key and the data key of every
// credential anew, in one transaction, and tells every gateway, each of which then needs that key. Secrets
// themselves are not encrypted anew. It does nothing, and says so by From and To being the same, where all
// is under that key already.
func (s *Store) Rekey(ctx context.Context) (r Rotation, err error) {
	next := s.master.first()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		// Changes are made one after another, so none adds a credential under the old key meanwhile.
		revision, err := q.NextRevision(ctx)
		if err != nil {
			return err
		}
		instance, err := q.Instance(ctx)
		if err != nil {
			return err
		}
		r = Rotation{From: instance.KeyID, To: next.id}
		if r.Credentials, err = s.rewrapCredentials(ctx, q, next); err != nil {
			return err
		}
		if r.From == r.To && r.Credentials == 0 {
			return errNothingToDo
		}
		if err := s.rewrapHashKey(ctx, q, instance, next); err != nil {
			return err
		}
		if err := auditRotation(ctx, tx, revision, r); err != nil {
			return err
		}
		return q.Notify(ctx, logos.FormatID(revision))
	})
	if err != nil && !errors.Is(err, errNothingToDo) {
		return Rotation{}, fmt.Errorf("rotate the master key to %s: %w", next.id, err)
	}
	return r, nil
}

var errNothingToDo = errors.New("all is under that master key already")

func (s *Store) rewrapHashKey(ctx context.Context, q *db.Queries, instance db.InstanceRow, next *masterKey) error {
	old, err := s.master.find(instance.KeyID)
	if err != nil {
		return err
	}
	key, err := old.unwrap(hashKeyPurpose, instance.HashKey)
	if err != nil {
		return err
	}
	return q.RotateInstance(ctx, db.RotateInstanceParams{KeyID: next.id, HashKey: next.wrap(hashKeyPurpose, key)})
}

// rewrapCredentials wraps the data keys that are under other keys, also of credentials that were deleted.
func (s *Store) rewrapCredentials(ctx context.Context, q *db.Queries, next *masterKey) (int, error) {
	rows, err := q.CredentialsOfOtherKeys(ctx, next.id)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	p := db.RewrapCredentialsParams{KeyID: next.id}
	for _, row := range rows {
		old, err := s.master.find(row.KeyID)
		if err != nil {
			return 0, fmt.Errorf("credential %d: %w", row.ID, err)
		}
		key, err := old.unwrap(dataKeyPurpose, row.DataKey)
		if err != nil {
			return 0, fmt.Errorf("credential %d: %w", row.ID, err)
		}
		p.ID, p.DataKey = append(p.ID, row.ID), append(p.DataKey, next.wrap(dataKeyPurpose, key))
	}
	return len(rows), q.RewrapCredentials(ctx, p)
}

func auditRotation(ctx context.Context, tx pgx.Tx, revision int64, r Rotation) error {
	_, err := tx.Exec(ctx, `insert into audit_events (revision, method, kind, resource_id, before, after)
		values ($1, 'RotateMasterKey', 'master_key', 0, jsonb_build_object('id', $2::text), jsonb_build_object('id', $3::text, 'credentials', $4::bigint))`,
		revision, r.From, r.To, r.Credentials)
	return err
}

// CheckKey is nil if the master key that the database is under is given.
func (s *Store) CheckKey(ctx context.Context) error {
	id, err := s.KeyID(ctx)
	if err != nil {
		return fmt.Errorf("read which master key the database is under: %w", err)
	}
	if _, err := s.master.find(id); err != nil {
		return fmt.Errorf("%w: %w", ErrWrongKey, err)
	}
	return nil
}

// seal encrypts a secret under the master key that the database is under as the change is made.
func (t *Tx) seal(ctx context.Context, secret logos.Secret) (sealed, error) {
	instance, err := t.q.Instance(ctx)
	if err != nil {
		return sealed{}, err
	}
	key, err := t.store.master.find(instance.KeyID)
	if err != nil {
		return sealed{}, err
	}
	return key.seal(string(secret))
}
