package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/sql"
)

// masterKeys reads the master keys. A file of them is read again when one is missing.
func (s *settings) masterKeys() (*store.Keyring, error) {
	return store.NewKeyring(func() (string, error) {
		if s.masterKeyFile == "" && s.masterKey == "" {
			return "", errors.New("there is no master key: set LOGOS_MASTER_KEY or LOGOS_MASTER_KEY_FILE to the one that the database was initialised with; for a new database, make one with `openssl rand -base64 32` and keep it safe")
		}
		if s.masterKeyFile == "" {
			return s.masterKey, nil
		}
		text, err := os.ReadFile(s.masterKeyFile)
		if err != nil {
			return "", fmt.Errorf("read the master key: %w", err)
		}
		return string(text), nil
	})
}

// masterKeyPath is where `logos up` keeps the master key.
func (s *settings) masterKeyPath() string { return filepath.Join(s.dataDir, masterKeyFile) }

// findMasterKey makes the file in the data directory the master key's, unless the environment names another.
func (s *settings) findMasterKey() {
	if _, err := os.Stat(s.masterKeyPath()); err == nil && s.masterKey == "" && s.masterKeyFile == "" {
		s.masterKeyFile = s.masterKeyPath()
	}
}

// hasKey says, for people, whether a master key is given.
func (s *settings) hasKey(id string) string {
	s.findMasterKey()
	keys, err := s.masterKeys()
	switch {
	case err != nil:
		return ", where there is none yet"
	case !keys.Has(id):
		return ", where there is another"
	}
	return ", where it is already"
}

// rekey puts the database under the first master key.
func rekey(ctx context.Context, s *settings, log *zap.Logger) error {
	return withDatabase(ctx, s, mustExist, log, func(ctx context.Context, url string) error {
		s.findMasterKey()
		keys, err := s.masterKeys()
		if err != nil {
			return finalError{err}
		}
		db, err := store.Open(ctx, url, log)
		if err != nil {
			return err
		}
		defer db.Close()
		if err := db.Migrated(ctx); err != nil {
			return err
		}
		if err := db.Unlock(ctx, keys); err != nil {
			return err
		}
		r, err := db.Rekey(ctx)
		switch {
		case err != nil:
			return err
		case r.From == r.To && r.Credentials == 0:
			log.Info("nothing to do: the database is under the first master key already", zap.String("key_id", r.To))
		default:
			log.Info("the database is under the first master key now; the other is needed for older backups alone",
				zap.String("from", r.From), zap.String("to", r.To), zap.Int("credentials", r.Credentials))
		}
		return nil
	})
}
