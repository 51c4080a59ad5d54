package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Snapshot is one state of the database, which stays readable to other sessions by its name.
type Snapshot struct {
	Name   string // for "set transaction snapshot" and pg_dump
	Schema int    // version
	KeyID  string // of the master key that it is under
	Server int    // major version of Postgres
}

// Export calls do with a snapshot, which lives as long as do takes.
func (s *Store) Export(ctx context.Context, do func(context.Context, Snapshot) error) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("take a snapshot of the database: %w", err)
	}
	// Nothing was written; and the end of do counts, not that of a session that only waited.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var is Snapshot
	err = tx.QueryRow(ctx, `select pg_export_snapshot(), (select coalesce(max(version), 0) from schema_migrations),
		(select coalesce(max(key_id), '') from instance), current_setting('server_version_num')::int / 10000`).Scan(&is.Name, &is.Schema, &is.KeyID, &is.Server)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42P01" {
		return errors.New("this is not a database of Logos: it has no schema_migrations")
	}
	if err != nil {
		return fmt.Errorf("take a snapshot of the database: %w", err)
	}
	return do(ctx, is)
}

// Empty says whether the database holds nothing, but for what extensions brought, and the server's major version.
func (s *Store) Empty(ctx context.Context) (empty bool, server int, err error) {
	err = s.pool.QueryRow(ctx, `select not exists (select from pg_class c where relnamespace = 'public'::regnamespace
			and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')),
		current_setting('server_version_num')::int / 10000`).Scan(&empty, &server)
	if err != nil {
		return false, 0, fmt.Errorf("look whether the database is empty: %w", err)
	}
	return empty, server, nil
}
