package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock keeps several starters from migrating at once.
const migrationLock = 0x6c6f676f73 // "logos"

// A migration is one step of the schema: the file NNNN_name.sql of migrations/, and NNNN_name.down.sql,
// which takes it back.
type migration struct {
	version  int
	name     string
	up, down string
	losses   []loss
}

// A loss is data that the schema before has no place for. The file that takes a migration back says it in
// lines "-- lost: what | query that counts it".
type loss struct{ what, count string }

// SchemaVersion returns the version that this program migrates to.
func SchemaVersion() (int, error) {
	list, err := readMigrations()
	if err != nil {
		return 0, err
	}
	return newest(list), nil
}

func newest(list []migration) int { return list[len(list)-1].version }

// Migrate brings the schema up to this program's version, each step in a transaction of its own. Several
// may call it at once. A schema that is newer is left alone: migrations keep working with the program of
// the release before.
func (s *Store) Migrate(ctx context.Context) error {
	return s.migrating(ctx, func(conn *pgx.Conn, list []migration, have int) error {
		return s.up(ctx, conn, list, have, newest(list))
	})
}

// MigrateTo brings the schema to a version, up or down. On the way down it refuses to lose data, and says
// which, unless lose is set.
func (s *Store) MigrateTo(ctx context.Context, to int, lose bool) error {
	return s.migrating(ctx, func(conn *pgx.Conn, list []migration, have int) error {
		if most := newest(list); to < 0 || to > most || have > most {
			return fmt.Errorf("this program knows the schema up to version %d, the database is at %d, and %d is asked for: use the program that knows both", most, have, to)
		}
		if to >= have {
			return s.up(ctx, conn, list, have, to)
		}
		return s.down(ctx, conn, list, have, to, lose)
	})
}

// migrating calls do, which has the schema to itself, with the version that the schema has.
func (s *Store) migrating(ctx context.Context, do func(conn *pgx.Conn, list []migration, have int) error) error {
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
	return do(conn.Conn(), list, have)
}

func (s *Store) up(ctx context.Context, conn *pgx.Conn, list []migration, have, to int) error {
	for _, m := range list {
		if m.version <= have || m.version > to {
			continue
		}
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, m.up); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "insert into schema_migrations (version, name) values ($1, $2)", m.version, m.name)
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate to %s: %w", m.name, err)
		}
		s.log.Info("migrated the database", zap.String("to", m.name))
	}
	return nil
}

// down goes back all of the way, or not at all.
func (s *Store) down(ctx context.Context, conn *pgx.Conn, list []migration, have, to int, lose bool) error {
	var lost []string
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, m := range slices.Backward(list) {
			if m.version > have || m.version <= to {
				continue
			}
			would, err := m.loses(ctx, tx)
			if err != nil {
				return fmt.Errorf("count what is lost without %s: %w", m.name, err)
			}
			lost = append(lost, would...)
			if _, err := tx.Exec(ctx, m.down); err != nil {
				return fmt.Errorf("take back %s: %w", m.name, err)
			}
			if _, err := tx.Exec(ctx, "delete from schema_migrations where version = $1", m.version); err != nil {
				return err
			}
		}
		if len(lost) > 0 && !lose {
			return fmt.Errorf("version %d of the schema has no place for: %s. Nothing was changed; make a backup, then say --yes to lose it", to, strings.Join(lost, "; "))
		}
		return nil
	})
	if err == nil {
		s.log.Warn("took the database back to an older schema", zap.Int("version", to), zap.Strings("lost", lost))
	}
	return err
}

// loses returns what taking the migration back would lose, with its amount.
func (m migration) loses(ctx context.Context, tx pgx.Tx) (lost []string, err error) {
	for _, l := range m.losses {
		var n int64
		if err := tx.QueryRow(ctx, l.count).Scan(&n); err != nil {
			return nil, err
		}
		if n > 0 {
			lost = append(lost, fmt.Sprintf("%s (%d)", l.what, n))
		}
	}
	return lost, nil
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
	var list []migration // Glob sorts, and numbers have leading zeros
	for _, file := range files {
		if strings.HasSuffix(file, downSuffix) {
			continue
		}
		m, err := readMigration(file)
		if err != nil {
			return nil, fmt.Errorf("read migration %s: %w", file, err)
		}
		list = append(list, m)
	}
	return list, nil
}

const downSuffix = ".down.sql"

func readMigration(file string) (m migration, err error) {
	m.name = strings.TrimSuffix(path.Base(file), ".sql")
	number, _, _ := strings.Cut(m.name, "_")
	if m.version, err = strconv.Atoi(number); err != nil {
		return m, err
	}
	up, err := migrations.ReadFile(file)
	if err != nil {
		return m, err
	}
	down, err := migrations.ReadFile(strings.TrimSuffix(file, ".sql") + downSuffix)
	m.up, m.down = string(up), string(down)
	for line := range strings.Lines(m.down) {
		what, count, ok := strings.Cut(line, "|")
		if what, is := strings.CutPrefix(what, "-- lost: "); ok && is {
			m.losses = append(m.losses, loss{strings.TrimSpace(what), count})
		}
	}
	return m, err
}
