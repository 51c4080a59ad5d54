// Package store is all that touches Postgres: the schema and its migrations, the configuration and its
// revisions, the records of calls. Secrets are encrypted here and leave it only as logos.Secret; API keys
// are stored as keyed hashes. It decides nothing and knows no HTTP. cmd/logos opens it; api changes the
// configuration through [Store.Change]; accesslog records calls through it.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// A Store is a Postgres database of Logos. Its methods may be called from any goroutine.
type Store struct {
	pool   *pgxpool.Pool
	master *Keyring
	hasher logos.Hasher
	log    *zap.Logger
	series seriesBook
}

// Open connects to a database. It waits, as long as ctx allows, for a server that is not there yet.
func Open(ctx context.Context, url string, log *zap.Logger) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a Postgres connection string: it looks like postgres://user:password@host:5432/name")
	}
	config.MaxConns = max(config.MaxConns, 8)
	config.ConnConfig.RuntimeParams["application_name"] = "logos"
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s := &Store{pool: pool, log: log}
	if err := s.waitForServer(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) waitForServer(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for said := false; ; said = true {
		err := s.pool.Ping(ctx)
		if err == nil {
			return nil
		}
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && (pg.Code[:2] == "28" || pg.Code == "3D000") {
			return fmt.Errorf("connect to the database: %w", err)
		}
		if !said {
			s.log.Warn("the database can't be reached yet", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connect to the database: %w", err)
		case <-tick.C:
		}
	}
}

// Close closes all connections.
func (s *Store) Close() { s.pool.Close() }

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// KeyID returns the id of the master key that the database is under, or "" if it was never unlocked.
func (s *Store) KeyID(ctx context.Context) (string, error) {
	var exists bool
	if err := s.pool.QueryRow(ctx, "select to_regclass('instance') is not null").Scan(&exists); err != nil || !exists {
		return "", err
	}
	row, err := db.New(s.pool).Instance(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return row.KeyID, err
}

// ErrWrongKey says that trying again with these master keys is useless.
var ErrWrongKey = errors.New("the master key of this database is not given")

// Unlock gives the store its master keys, the first of which initialises a new database. They are refused
// if the one that the database is under is not among them.
func (s *Store) Unlock(ctx context.Context, keys *Keyring) error {
	var fresh [keyBytes]byte
	rand.Read(fresh[:])
	q := db.New(s.pool)
	first := keys.first()
	err := q.CreateInstance(ctx, db.CreateInstanceParams{KeyID: first.id, HashKey: first.wrap(hashKeyPurpose, fresh[:])})
	if err != nil {
		return fmt.Errorf("initialise the database: %w", err)
	}
	row, err := q.Instance(ctx)
	if err != nil {
		return fmt.Errorf("read the hash key: %w", err)
	}
	master, err := keys.find(row.KeyID)
	if err != nil {
		return fmt.Errorf("%w: %w; give the right one in LOGOS_MASTER_KEY or LOGOS_MASTER_KEY_FILE", ErrWrongKey, err)
	}
	key, err := master.unwrap(hashKeyPurpose, row.HashKey)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWrongKey, err)
	}
	s.master, s.hasher = keys, logos.NewHasher(key)
	return nil
}
