package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock keeps several starters from migrating at once.
const migrationLock = 0x6c6f676f73 // "logos"

// A migration is one file of migrations/, named by its number.
type migration struct {
	version int
	name    string
	sql     string
}

// SchemaVersion returns the version that this program migrates to.
func SchemaVersion() (int, error) {
	list, err := readMigrations()
	if err != nil {
		return 0, err
	}
	return list[len(list)-1].version, nil
}

// Migrate brings the schema up to this program's version, each step in a transaction of its own. Several
// may call it at once. A schema that is newer is left alone: migrations keep working with the program of
// the release before.
func (s *Store) Migrate(ctx context.Context) error {
	list, err := readMigrations()
	if err != nil {
		return err
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", migrationLock); err != nil {
		return fmt.Errorf("migrate: wait for other migrations: %w", err)
	}
	defer func() {
		// A connection that is broken has no lock to give back.
		_, _ = conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", migrationLock)
	}()
	if _, err := conn.Exec(ctx, "create table if not exists schema_migrations (version integer primary key, name text not null, applied_at timestamptz not null default now())"); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var have int
	if err := conn.QueryRow(ctx, "select coalesce(max(version), 0) from schema_migrations").Scan(&have); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, m := range list {
		if m.version <= have {
			continue
		}
		if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return m.apply(ctx, tx) }); err != nil {
			return fmt.Errorf("migrate to %s: %w", m.name, err)
		}
		s.log.Info("migrated the database", zap.String("to", m.name))
	}
	return nil
}

func (m migration) apply(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, m.sql); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "insert into schema_migrations (version, name) values ($1, $2)", m.version, m.name)
	return err
}

// Migrated is nil if the schema is at least this program's.
func (s *Store) Migrated(ctx context.Context) error {
	want, err := SchemaVersion()
	if err != nil {
		return err
	}
	var have int
	if err := s.pool.QueryRow(ctx, "select coalesce(max(version), 0) from schema_migrations").Scan(&have); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have < want {
		return fmt.Errorf("the database's schema is version %d, and this program needs %d: run `logos migrate`", have, want)
	}
	return nil
}

func readMigrations() ([]migration, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(files) == 0 {
		return nil, errors.Join(errors.New("there are no migrations"), err)
	}
	list := make([]migration, 0, len(files)) // Glob sorts, and numbers have leading zeros
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", name, err)
		}
		text, err := migrations.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		list = append(list, migration{version: version, name: name, sql: string(text)})
	}
	return list, nil
}
