// Package postgres runs the embedded Postgres server of `logos up`: it finds a place and a user for it,
// creates the database on the first start, and says how to start it and how to connect. It also runs
// Postgres's own programs that dump and load a database, this one or another. It knows nothing of what is
// stored; that is package store.
//
// The server listens on a Unix socket only, in a directory of mode 0700, and asks for a random password
// that is kept beside it in the data directory. It survives its supervisor and the machine's power: fsync
// is on, and only initdb, whose work can be repeated, goes without.
//
// Postgres refuses to run as root. As root, it runs as the user "postgres", else as "nobody", and owns
// its files. Where that user cannot reach the data directory or the programs (below a home of root, for
// example), the files go to /var/lib/logos/<digest of the data directory>, with a copy of the programs;
// the file postgres.place in the data directory then names that directory.
package postgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"
)

// Names in the data directory and of the one role and database.
const (
	placeDir     = "postgres"
	pointerFile  = "postgres.place"
	passwordFile = "postgres.password"
	role         = "logos"
	database     = "logos"
)

// Options say where the server's things are. All are required and absolute.
type Options struct {
	Install string // directory that holds bin/postgres
	DataDir string // of Logos
	RunDir  string // for the socket, if its path is short enough
	Lock    string // file whose lock every process of the server holds, see package supervise
	System  string // where it goes if it cannot be in DataDir; default /var/lib/logos
}

// A Server is a prepared database server.
type Server struct {
	opt      Options
	user     *account // nil: that of this process
	place    string   // holds data, and with another user also socket and programs
	install  string
	socket   string // directory
	password string
	created  bool
	log      *zap.Logger
}

// Exists says whether a data directory already has a database. It may have one also if an error keeps
// it from being used.
func Exists(dataDir string) bool {
	place, err := readPointer(dataDir)
	if err != nil {
		return true
	}
	if place == "" {
		place = filepath.Join(dataDir, placeDir)
	}
	_, err = os.Stat(filepath.Join(place, "data", "PG_VERSION"))
	return !errors.Is(err, fs.ErrNotExist)
}

// Running returns the connection string of the server that runs on a data directory, or "" if none does.
func Running(dataDir string) (string, error) {
	place, err := readPointer(dataDir)
	if err != nil {
		return "", err
	}
	s := &Server{opt: Options{DataDir: dataDir}, place: place}
	if place == "" {
		s.place = filepath.Join(dataDir, placeDir)
	}
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for a running Postgres: %w", err)
	}
	// See clearLeftovers for its lines.
	l := strings.Split(string(text), "\n")
	if len(l) < 5 || l[4] == "" || !answers(l[4], l[3]) {
		return "", nil
	}
	if err := s.readPassword(); err != nil {
		return "", err
	}
	s.socket = l[4]
	return s.URL(), nil
}

// Prepare makes everything ready for a start of the server; on the first it creates the database, which
// takes a second or two. The caller holds the lock of the data directory, and has ended what an earlier
// run left behind.
func Prepare(ctx context.Context, opt Options, log *zap.Logger) (*Server, error) {
	if opt.System == "" {
		opt.System = "/var/lib/logos"
	}
	s := &Server{opt: opt, log: log}
	version, err := s.settle(ctx)
	if err != nil {
		return nil, err
	}
	if s.socket, err = s.socketDir(); err != nil {
		return nil, err
	}
	if err := s.readPassword(); err != nil {
		return nil, err
	}
	return s, s.create(ctx, version)
}

// Created says whether Prepare created the database.
func (s *Server) Created() bool { return s.created }

// URL returns the connection string of the database, with its password.
func (s *Server) URL() string { return s.url(database) }

func (s *Server) url(name string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, s.password), Path: "/" + name}
	u.RawQuery = url.Values{"host": {s.socket}}.Encode()
	return u.String()
}

func (s *Server) data() string { return filepath.Join(s.place, "data") }

func (s *Server) program(name string) string { return filepath.Join(s.install, "bin", name) }

// readPassword reads the password, or makes one as long as there is no database.
func (s *Server) readPassword() error {
	path := filepath.Join(s.opt.DataDir, passwordFile)
	text, err := os.ReadFile(path)
	switch {
	case err == nil && len(strings.TrimSpace(string(text))) > 0:
		s.password = strings.TrimSpace(string(text))
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the database's password: %w", err)
	case Exists(s.opt.DataDir):
		return fmt.Errorf("the password of the embedded database is gone: restore %s or, to begin with an empty database, remove %s", path, s.place)
	}
	var b [24]byte
	rand.Read(b[:])
	s.password = hex.EncodeToString(b[:])
	if err := os.WriteFile(path, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the database's password: %w", err)
	}
	return nil
}

// maxSocketDir is the longest directory for the socket: macOS allows a path of 103 bytes.
const maxSocketDir = 103 - len("/.s.PGSQL.5432")

// socketDir returns the first directory for the socket whose path is short enough, private.
func (s *Server) socketDir() (string, error) {
	near := s.opt.RunDir
	if s.user != nil {
		near = filepath.Join(s.place, "run")
	}
	if len(near) <= maxSocketDir {
		return near, s.private(near)
	}
	far := filepath.Join(os.TempDir(), "logos-"+digest(s.opt.DataDir))
	if len(far) > maxSocketDir {
		return "", fmt.Errorf("no path is short enough for the database's socket: set LOGOS_RUN_DIR to one of at most %d bytes", maxSocketDir)
	}
	return far, s.private(far)
}

// private makes a directory that is the server's alone, and checks one that is there: in a temporary
// directory anyone could have made it.
func (s *Server) private(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		return s.own(dir)
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make directory for the database's socket: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at directory for the database's socket: %w", err)
	}
	if owner := ownerOf(info); !info.IsDir() || info.Mode().Perm()&0o022 != 0 || owner != s.uid() && owner != os.Geteuid() {
		return fmt.Errorf("%s must be a directory that only this user can write to: remove it", dir)
	}
	return s.own(dir)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
