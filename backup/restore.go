package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/postgres"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// Check reads a whole backup and returns its manifest, if it is undamaged.
func Check(ctx context.Context, path string, log *zap.Logger) (*Manifest, error) {
	m, err := read(ctx, path, "checking the backup", log, func(string, io.Reader) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", path, err)
	}
	return m, nil
}

// Restore fills an empty database and an unused run directory from a backup that was checked. It happens as a
// whole or not at all, unless the machine fails meanwhile.
func Restore(ctx context.Context, path string, m *Manifest, g Gateway, db *store.Store, log *zap.Logger) error {
	if err := m.suits(ctx, g, db); err != nil {
		return err
	}
	if used, err := usedBy(g.RunDir); used != "" || err != nil {
		return errors.Join(err, fmt.Errorf("the run directory %s was used: it holds %s; restore into an empty one (LOGOS_DATA_DIR, LOGOS_RUN_DIR)", g.RunDir, used))
	}
	var made []string
	add := func(name string, content io.Reader) error {
		path := filepath.Join(g.RunDir, name)
		made = append(made, path)
		return place(path, content)
	}
	err := add(IDFile, strings.NewReader(m.Gateway+"\n"))
	if err == nil {
		_, err = read(ctx, path, "restoring", log, func(name string, content io.Reader) error {
			if name == dumpName { // the last
				if err := syncDir(g.RunDir); err != nil {
					return err
				}
				return postgres.Load(ctx, g.Postgres, g.DatabaseURL, content)
			}
			base, ok := strings.CutPrefix(name, runPrefix)
			if !ok || !inRunDir.MatchString(base) {
				return fmt.Errorf("it holds %q, which belongs nowhere", name)
			}
			return add(base, content)
		})
	}
	if err == nil {
		return nil
	}
	for _, path := range made {
		if e := os.Remove(path); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return fmt.Errorf("restore %s: %w", path, err)
}

// IDFile is the file of a run directory that names its gateway.
const IDFile = "gateway.id"

// suits says whether the backup can be restored into a database, by this program.
func (m *Manifest) suits(ctx context.Context, g Gateway, db *store.Store) error {
	schema, err := store.SchemaVersion()
	if err != nil {
		return err
	}
	if m.Schema > schema {
		return fmt.Errorf("the backup's schema is version %d, and this program knows %d: use the version that made it, %s, or a later one", m.Schema, schema, m.Program)
	}
	client, err := postgres.ClientVersion(ctx, g.Postgres, "pg_restore")
	if err != nil {
		return err
	}
	empty, server, err := db.Empty(ctx)
	if err != nil {
		return err
	}
	if least := m.Client; client < least {
		return fmt.Errorf("the backup was made by pg_dump of Postgres %d, which pg_restore of Postgres %d can't read: set LOGOS_POSTGRES to the directory of a Postgres %d", least, client, least)
	}
	if server < m.Server {
		return fmt.Errorf("the backup is of Postgres %d, and the database is of Postgres %d: restore into a Postgres %d or later", m.Server, server, m.Server)
	}
	if !empty {
		return errors.New("the database is not empty: restore into a new one, or into a new LOGOS_DATA_DIR")
	}
	return nil
}

// usedBy returns a file that a gateway left in a run directory.
func usedBy(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("look into the run directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() == IDFile || inRunDir.MatchString(e.Name()) {
			return e.Name(), nil
		}
	}
	return "", nil
}

// place writes a file of the run directory, in which nothing has that name.
func place(path string, content io.Reader) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Sync(), f.Close())
}

// read reads a backup, saying now and then how far it is.
func read(ctx context.Context, path, what string, log *zap.Logger, do func(string, io.Reader) error) (*Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var done atomic.Int64
	defer every(5*time.Second, func() { log.Info(what, zap.Int64("bytes", done.Load()), zap.Int64("of", info.Size())) })()
	return each(io.TeeReader(cancelled{ctx, f}, &counter{total: &done}), do)
}

// cancelled is a reader that fails once its context has ended.
type cancelled struct {
	ctx context.Context
	io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}
