package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/supervise"
)

// Interrupt asks the server for a fast shutdown: it ends its sessions and writes a checkpoint.
const Interrupt = syscall.SIGINT

// Quit asks the server to end at once, without a checkpoint; its next start recovers.
const Quit = syscall.SIGQUIT

// create runs initdb if there is no database yet. It works in a directory beside and renames that, so
// that what is there is whole.
func (s *Server) create(ctx context.Context, version string) error {
	have, err := os.ReadFile(filepath.Join(s.data(), "PG_VERSION"))
	if err == nil {
		if v := strings.TrimSpace(string(have)); v != version {
			return fmt.Errorf("the database in %s was made by Postgres %s and cannot be used with Postgres %s", s.data(), v, version)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for the database: %w", err)
	}
	s.log.Info("creating the database; this is done once and takes a few seconds", zap.String("in", s.data()))
	unfinished, secret := s.data()+".new", s.data()+".secret"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("remove an unfinished database: %w", err)
	}
	if err := s.writeSecret(secret); err != nil {
		return err
	}
	defer os.Remove(secret)
	var out bytes.Buffer
	initdb := &supervise.Child{Name: "initdb", Lock: s.opt.Lock, Signal: Interrupt, Command: func() (*exec.Cmd, error) {
		cmd := exec.Command(s.program("initdb"), "--pgdata="+unfinished, "--username="+role, "--pwfile="+secret,
			"--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
			"--no-sync", "--no-instructions")
		s.dress(cmd, s.place)
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
		return cmd, nil
	}}
	state, err := initdb.Once(ctx, s.log)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && !state.Success() {
		err = errors.New(state.String())
	}
	if err != nil {
		return fmt.Errorf("create the database: %w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	if err := os.Rename(unfinished, s.data()); err != nil {
		return fmt.Errorf("create the database: %w", err)
	}
	s.created = true
	return nil
}

// writeSecret writes the password for initdb, which runs as the server's user.
func (s *Server) writeSecret(path string) error {
	err := os.WriteFile(path, []byte(s.password+"\n"), 0o600)
	if err == nil {
		err = s.own(path)
	}
	if err != nil {
		return fmt.Errorf("hand the password to initdb: %w", err)
	}
	return nil
}

// Command returns the command of one start of the server. The caller holds the server's lock, which
// proves that no server of ours runs; files that a killed one left behind are removed, because their
// process id may be another process's by now.
func (s *Server) Command() (*exec.Cmd, error) {
	if err := s.clearLeftovers(); err != nil {
		return nil, err
	}
	cmd := exec.Command(s.program("postgres"), "-D", s.data())
	for _, setting := range []string{
		"listen_addresses=",
		"port=5432", // only names the socket
		`unix_socket_directories="` + strings.ReplaceAll(s.socket, `"`, `""`) + `"`,
		"unix_socket_permissions=0700",
		"fsync=on", "synchronous_commit=on",
		"max_connections=100", "shared_buffers=64MB", "max_wal_size=512MB",
		"timezone=UTC", "log_timezone=UTC", "cluster_name=logos",
		// Errors of statements reach whoever made them; the log is for what concerns the server itself.
		"logging_collector=off", "log_destination=stderr", "log_line_prefix=postgres: ", "log_min_messages=fatal",
	} {
		cmd.Args = append(cmd.Args, "-c", setting)
	}
	s.dress(cmd, s.place)
	return cmd, nil
}

func (s *Server) clearLeftovers() error {
	pidFile := filepath.Join(s.data(), "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if err == nil {
		// Lines: process id, data directory, start time, port, socket directory, ...
		if l := strings.Split(string(text), "\n"); len(l) > 4 && l[4] != "" && answers(l[4], l[3]) {
			return fmt.Errorf("process %s, a Postgres server that was started by hand, uses %s: stop it first", l[0], s.data())
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for a running Postgres: %w", err)
	}
	for _, path := range []string{pidFile, filepath.Join(s.socket, ".s.PGSQL.5432"), filepath.Join(s.socket, ".s.PGSQL.5432.lock")} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what a killed Postgres left behind: %w", err)
		}
	}
	return nil
}

// answers says whether a server listens on the socket of that name.
func answers(dir, port string) bool {
	conn, err := net.Dial("unix", filepath.Join(dir, ".s.PGSQL."+port))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Wait returns when the server takes connections and its database exists. It returns an error when ctx
// ends, or if the server refuses the password.
func (s *Server) Wait(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := errNotReady
		if s.saysReady() { // asking too early leaves a line in the server's log
			err = s.ensureDatabase(ctx)
		}
		if err == nil {
			return nil
		}
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "28P01" {
			return fmt.Errorf("the password in %s is not that of the database in %s", filepath.Join(s.opt.DataDir, passwordFile), s.data())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Postgres: %w (last: %w)", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

var errNotReady = errors.New("the server is not ready")

// saysReady reads the server's status from the last line of its process file.
func (s *Server) saysReady() bool {
	text, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	l := strings.Split(string(text), "\n")
	return err == nil && len(l) > 7 && strings.TrimSpace(l[7]) == "ready"
}

// ensureDatabase connects to the database, and creates it if it isn't there.
func (s *Server) ensureDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", database).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "create database "+database)
	return err
}
