package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/postgres"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/supervise"
)

// claim makes the directories and takes the data directory, which one `logos up` or command has at a time.
func claim(s *settings, out io.Writer, log *zap.Logger) (u *supervisor, release func() error, err error) {
	for _, dir := range []string{s.dataDir, s.runDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("make directory (LOGOS_DATA_DIR, LOGOS_RUN_DIR): %w", err)
		}
	}
	path := filepath.Join(s.dataDir, "up.lock")
	lock, err := supervise.Lock(path)
	if errors.Is(err, supervise.ErrLocked) {
		return nil, nil, finalError{fmt.Errorf("logos up runs already on %s (process %d): stop it, or set LOGOS_DATA_DIR to another directory", s.dataDir, supervise.Holder(path))}
	}
	if err != nil {
		return nil, nil, err
	}
	return &supervisor{settings: s, log: log, out: out, failed: make(chan error, 8)}, lock.Close, nil
}

// Whether a command makes the embedded database where there is none.
const (
	mustExist = false
	mayCreate = true
)

// withDatabase calls do with the connection string of the database that the settings name: DATABASE_URL, else
// the embedded one, which is started for as long as do takes unless it runs.
func withDatabase(ctx context.Context, s *settings, create bool, log *zap.Logger, do func(ctx context.Context, url string) error) error {
	if s.databaseURL != "" {
		return do(ctx, s.databaseURL)
	}
	if !create && !postgres.Exists(s.dataDir) {
		return finalError{fmt.Errorf("there is no database in %s: set LOGOS_DATA_DIR to where `logos up` runs, or DATABASE_URL", s.dataDir)}
	}
	running, err := postgres.Running(s.dataDir)
	if err != nil {
		return err
	}
	if running != "" {
		return do(ctx, running)
	}
	u, release, err := claim(s, io.Discard, log)
	if err != nil {
		return err
	}
	defer func() { _ = release() }()
	url, stop, err := u.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return do(ctx, url)
}

// migrate brings the schema to a version; below 0 stands for this program's.
func migrate(ctx context.Context, s *settings, to int, lose bool, log *zap.Logger) error {
	return withDatabase(ctx, s, mustExist, log, func(ctx context.Context, url string) error {
		db, err := store.Open(ctx, url, log)
		if err != nil {
			return err
		}
		defer db.Close()
		if to < 0 {
			return db.Migrate(ctx)
		}
		return db.MigrateTo(ctx, to, lose)
	})
}
