// Package backup writes what a gateway needs to go on elsewhere into one file, and reads it back: the
// database, and from the run directory the access logs and intents, in which is what the database does not
// hold yet. The gateway may run meanwhile. The file holds no master key: without the one that it names,
// credentials and API keys are of no use. cmd/logos calls it.
//
// The file is a tar archive, with a manifest as its last entry, which shows that the archive is whole.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/postgres"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// A Gateway says where a gateway keeps what is to be backed up or restored. All of it is required.
type Gateway struct {
	ID          string // its name in records
	RunDir      string
	DatabaseURL string
	Postgres    string // directory that holds bin/pg_dump and bin/pg_restore, if they are not on PATH
	Program     string // version of this program
}

// flushed is longer than Envoy keeps lines of its access log back.
const flushed = 200 * time.Millisecond

// errMoved says that a file came or went while the snapshot was taken.
var errMoved = errors.New("the run directory changed")

// Write makes a backup in a new file, which appears when it is whole. Nobody but its owner can read it.
func Write(ctx context.Context, path string, g Gateway, db *store.Store, log *zap.Logger) (*Manifest, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s is there already: a backup replaces no file", path)
	}
	client, err := postgres.ClientVersion(ctx, g.Postgres, "pg_dump")
	if err != nil {
		return nil, err
	}
	unfinished, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return nil, fmt.Errorf("write the backup: %w", err)
	}
	defer os.Remove(unfinished.Name())
	defer unfinished.Close()
	a := &archive{file: unfinished, manifest: Manifest{Format: format, Program: g.Program, Gateway: g.ID, Client: client, Began: time.Now().UTC()}}
	stop := a.report(log)
	err = snapshot(ctx, g.RunDir, db, func(ctx context.Context, s store.Snapshot, files []*file) error {
		return a.fill(ctx, g, s, files)
	})
	stop()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unfinished.Sync(), unfinished.Close()); err != nil {
		return nil, fmt.Errorf("write the backup: %w", err)
	}
	// A link, unlike a renaming, replaces nothing.
	if err := os.Link(unfinished.Name(), path); err != nil {
		return nil, fmt.Errorf("place the backup: %w", err)
	}
	return &a.manifest, syncDir(filepath.Dir(path))
}

// snapshot calls do with one state of the database and the files of the run directory at the same moment:
// those that were there before the database's state was fixed and are there after it. Files only grow, and
// stay readable once they are open, so do may take its time. Where do returns errMoved, there is another try.
func snapshot(ctx context.Context, dir string, db *store.Store, do func(context.Context, store.Snapshot, []*file) error) error {
	for range 20 {
		before, err := openFiles(dir)
		if err != nil {
			return err
		}
		err = db.Export(ctx, func(ctx context.Context, s store.Snapshot) error {
			after, err := openFiles(dir)
			if err != nil {
				return err
			}
			defer closeFiles(after)
			if !sameFiles(before, after) {
				return errMoved
			}
			return do(ctx, s, after)
		})
		closeFiles(before)
		if !errors.Is(err, errMoved) {
			return err
		}
	}
	return errors.New("access logs come and go too fast for a backup: set LOGOS_LOG_ROTATE_BYTES higher")
}

// fill writes all entries.
func (a *archive) fill(ctx context.Context, g Gateway, s store.Snapshot, files []*file) error {
	if s.KeyID == "" {
		return errors.New("the database was never used: there is nothing to back up")
	}
	if s.Server > a.manifest.Client {
		return fmt.Errorf("the database is of Postgres %d, which pg_dump of Postgres %d can't read: set LOGOS_POSTGRES to the directory of a Postgres %d", s.Server, a.manifest.Client, s.Server)
	}
	a.manifest.Schema, a.manifest.KeyID, a.manifest.Server = s.Schema, s.KeyID, s.Server
	// Envoy keeps the lines of calls that ended just now back for 20 ms.
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(flushed):
	}
	opened := len(files)
	files, err := follow(g.RunDir, files)
	defer func() { closeFiles(files[opened:]) }() // the others are the caller's
	if err != nil {
		return err
	}
	// The database comes last, so that it is restored when everything else is in place.
	for _, f := range files {
		if err := a.add(runPrefix+f.name, f.copy); err != nil {
			return fmt.Errorf("add %s: %w", f.name, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	err = a.add(dumpName, func(w io.Writer) error { return postgres.Dump(ctx, g.Postgres, g.DatabaseURL, s.Name, w) })
	if err != nil {
		return fmt.Errorf("dump the database: %w", err)
	}
	return a.finish()
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
