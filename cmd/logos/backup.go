package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/backup"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// makeBackup writes a backup of this gateway and its database.
func makeBackup(ctx context.Context, s *settings, to string, out io.Writer, log *zap.Logger) error {
	if to == "" {
		return finalError{errors.New("--to is missing: it names the file to write, like --to logos.backup")}
	}
	id := knownGatewayID(s)
	if _, err := os.Stat(s.runDir); err != nil || id == "" {
		return finalError{fmt.Errorf("no gateway ran in %s: set LOGOS_DATA_DIR or LOGOS_RUN_DIR to a gateway's, whose access log is part of the backup", s.runDir)}
	}
	return withDatabase(ctx, s, mustExist, log, func(ctx context.Context, url string) error {
		db, err := store.Open(ctx, url, log)
		if err != nil {
			return err
		}
		defer db.Close()
		m, err := backup.Write(ctx, to, s.backedUp(id, url), db, log)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s holds gateway %s and its database as of %s.\nIt needs master key %s, which is not in it: keep a copy of that apart.\n",
			to, m.Gateway, m.Began.Local().Format("2006-01-02 15:04:05"), m.KeyID)
		return nil
	})
}

// restore fills an empty database and an unused run directory from a backup.
func restore(ctx context.Context, s *settings, from string, out io.Writer, log *zap.Logger) error {
	if from == "" {
		return finalError{errors.New("--from is missing: it names the backup to restore, like --from logos.backup")}
	}
	m, err := backup.Check(ctx, from, log)
	if err != nil {
		return finalError{err}
	}
	if s.gatewayID != "" && s.gatewayID != m.Gateway {
		return finalError{fmt.Errorf("LOGOS_GATEWAY_ID is %s, and the backup is of gateway %s, whose access log is in it: unset it, or set it to that", s.gatewayID, m.Gateway)}
	}
	if err := os.MkdirAll(s.runDir, 0o700); err != nil {
		return fmt.Errorf("make the run directory: %w", err)
	}
	return withDatabase(ctx, s, mayCreate, log, func(ctx context.Context, url string) error {
		db, err := store.Open(ctx, url, log)
		if err != nil {
			return err
		}
		defer db.Close()
		if err := backup.Restore(ctx, from, m, s.backedUp(m.Gateway, url), db, log); err != nil {
			return err
		}
		fmt.Fprintf(out, "Gateway %s and its database are as of %s.\nThey need master key %s, in %s or LOGOS_MASTER_KEY%s.\n",
			m.Gateway, m.Began.Local().Format("2006-01-02 15:04:05"), m.KeyID, s.masterKeyPath(), s.hasKey(m.KeyID))
		return nil
	})
}

func (s *settings) backedUp(gateway, url string) backup.Gateway {
	return backup.Gateway{ID: gateway, RunDir: s.runDir, DatabaseURL: url, Postgres: s.postgres, Program: version()}
}
