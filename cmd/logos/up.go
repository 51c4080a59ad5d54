package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/demo"
	"github.com/ls1intum/edutelligence/logos/envoy"
	"github.com/ls1intum/edutelligence/logos/postgres"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/supervise"
)

const masterKeyFile = "master.key" // in the data directory

// A supervisor is what `logos up` runs. Children are started in the order Postgres, serve, Envoy, and
// ended in the other.
type supervisor struct {
	settings *settings
	log      *zap.Logger
	out      io.Writer
	failed   chan error
	running  sync.WaitGroup
}

func up(ctx context.Context, s *settings, withDemo bool, out io.Writer, log *zap.Logger) error {
	begin := time.Now()
	u, release, err := claim(s, out, log)
	if err != nil {
		return err
	}
	defer func() { _ = release() }()
	if err := u.takeOver(ctx); err != nil {
		return err
	}
	if withDemo {
		stop, err := u.startDemo()
		if err != nil {
			return err
		}
		defer stop()
	}
	return u.run(ctx, begin)
}

func (u *supervisor) lock(name string) string { return filepath.Join(u.settings.runDir, name+".lock") }

// takeOver ends what a killed run left behind, and sees that the ports are free.
func (u *supervisor) takeOver(ctx context.Context) error {
	for _, left := range []struct {
		name string
		sig  syscall.Signal
	}{{"envoy", syscall.SIGTERM}, {"serve", syscall.SIGTERM}, {"postgres", postgres.Interrupt}} {
		if err := supervise.TakeOver(ctx, u.lock(left.name), left.sig, childGrace, u.log); err != nil {
			return err
		}
	}
	for _, port := range []struct{ name, address string }{
		{"LOGOS_LISTEN", u.settings.listen}, {"LOGOS_ADMIN_LISTEN", u.settings.adminListen}, {"LOGOS_ENVOY_ADMIN", u.settings.envoyAdmin},
	} {
		l, err := net.Listen("tcp", port.address)
		if err != nil {
			return finalError{fmt.Errorf("can't listen on %s: %w; set %s to another address", port.address, err, port.name)}
		}
		l.Close()
	}
	return nil
}

// startDemo serves the demo provider, whose address the gateway then keeps up to date.
func (u *supervisor) startDemo() (stop func(), err error) {
	l, err := net.Listen("tcp", u.settings.demoListen)
	if err != nil {
		return nil, finalError{fmt.Errorf("listen for the demo provider (LOGOS_DEMO_LISTEN): %w", err)}
	}
	u.settings.demoURL = "http://" + l.Addr().String()
	server := &http.Server{Handler: demo.NewHandler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	u.running.Go(func() { _ = server.Serve(l) })
	return func() {
		server.Close()
		u.running.Wait()
	}, nil
}

// run starts the children, says when they are ready, and ends them when ctx ends or one can't go on.
func (u *supervisor) run(ctx context.Context, begin time.Time) (err error) {
	pg, stopPostgres, err := u.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer stopPostgres()
	if pg != "" {
		u.settings.databaseURL = pg
	}
	if err := u.ensureMasterKey(ctx); err != nil {
		return err
	}
	stopServe := u.child(&supervise.Child{
		Name: "serve", Lock: u.lock("serve"), Command: u.serveCommand, Grace: childGrace,
		Final: func(code int) bool { return code == exitFinal },
	})
	defer stopServe()
	stopEnvoy := u.child(&supervise.Child{Name: "envoy", Lock: u.lock("envoy"), Grace: childGrace, Command: func() (*exec.Cmd, error) {
		return envoy.Command(envoy.Options{
			Program: u.settings.envoy, RunDir: u.settings.runDir, Admin: u.settings.envoyAdmin,
			Concurrency: u.settings.concurrency, HeapBytes: u.settings.envoyHeap,
		}, envoy.NewEpoch())
	}})
	defer stopEnvoy()
	if err := u.waitReady(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	u.announce(time.Since(begin))
	select {
	case <-ctx.Done():
		fmt.Fprintln(u.out, "\nstopping: calls under way have a few seconds to end")
		u.drain(context.WithoutCancel(ctx))
		return nil
	case err := <-u.failed:
		return finalError{err}
	}
}

// child keeps a child running until stop is called.
func (u *supervisor) child(c *supervise.Child) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	u.running.Go(func() {
		defer close(done)
		if err := c.Run(ctx, u.log); err != nil {
			u.failed <- err
		}
	})
	return func() {
		cancel()
		<-done
	}
}

// startPostgres starts the embedded database, unless there is another.
func (u *supervisor) startPostgres(ctx context.Context) (url string, stop func(), err error) {
	if u.settings.databaseURL != "" {
		return "", func() {}, nil
	}
	server, err := postgres.Prepare(ctx, postgres.Options{
		Install: u.settings.postgres, DataDir: u.settings.dataDir, RunDir: u.settings.runDir, Lock: u.lock("postgres"),
	}, u.log)
	if err != nil {
		return "", nil, err
	}
	stop = u.child(&supervise.Child{Name: "postgres", Lock: u.lock("postgres"), Signal: postgres.Interrupt, Grace: childGrace, Command: server.Command})
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := server.Wait(wait); err != nil {
		stop()
		return "", nil, err
	}
	return server.URL(), stop, nil
}

// ensureMasterKey makes a master key for a database that has none yet.
func (u *supervisor) ensureMasterKey(ctx context.Context) error {
	s := u.settings
	if s.masterKey != "" || s.masterKeyFile != "" {
		return nil
	}
	path := s.masterKeyPath()
	if _, err := os.Stat(path); err == nil {
		s.findMasterKey()
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for the master key: %w", err)
	}
	db, err := store.Open(ctx, s.databaseURL, u.log)
	if err != nil {
		return err
	}
	defer db.Close()
	id, err := db.KeyID(ctx)
	if err != nil {
		return fmt.Errorf("look whether the database has a master key: %w", err)
	}
	if id != "" {
		return finalError{fmt.Errorf("the master key is gone: the database was initialised with key %s; restore %s, or set LOGOS_MASTER_KEY", id, path)}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the master key: %w", err)
	}
	_, err = f.WriteString(store.NewMasterKeyText() + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("make the master key: %w", err)
	}
	s.masterKeyFile = path
	u.log.Info("made a master key; without it the stored credentials can't be read, so keep a copy", zap.String("file", path))
	return nil
}

// serveCommand starts this program again, with what was found out in its environment.
func (u *supervisor) serveCommand() (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	s := u.settings
	cmd := exec.Command(exe, "serve")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+s.databaseURL, "LOGOS_DATA_DIR="+s.dataDir, "LOGOS_RUN_DIR="+s.runDir, "LOGOS_DEMO_URL="+s.demoURL)
	if s.masterKey == "" {
		cmd.Env = append(cmd.Env, "LOGOS_MASTER_KEY_FILE="+s.masterKeyFile)
	}
	return cmd, nil
}

// waitReady returns when the gateway is ready.
func (u *supervisor) waitReady(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	slow := time.After(15 * time.Second)
	for {
		ready, why := u.ready(ctx)
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-u.failed:
			return finalError{err}
		case <-slow:
			u.log.Warn("still not ready", zap.String("why", why))
		case <-tick.C:
		}
	}
}

func (u *supervisor) ready(ctx context.Context) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	status, body, err := get(ctx, u.settings, "/readyz")
	if err != nil {
		return false, err.Error()
	}
	return status == http.StatusOK, body
}

// reachable turns an address to listen on into one to call.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// announce prints what a person needs first.
func (u *supervisor) announce(took time.Duration) {
	s := u.settings
	data, admin := s.dataURL(), s.adminURL()
	fmt.Fprintf(u.out, `
Logos is ready (%s).

  calls      %s/v1
  admin      %s   (/docs, /admin/v1, /logosdb, /metrics, /readyz)
  Envoy      http://%s   (stats)
  data       %s

`, took.Round(time.Millisecond), data, admin, reachable(s.envoyAdmin), s.dataDir)
	if key, err := os.ReadFile(filepath.Join(s.dataDir, demoKeyFile)); err == nil && s.demoURL != "" {
		fmt.Fprintf(u.out, `Try it on the demo provider:

  curl -i %s/v1/chat/completions -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '{"model":%s,"messages":[{"role":"user","content":"Hello"}]}'

`, data, strings.TrimSpace(string(key)), strconv.Quote(demo.Model))
	}
	fmt.Fprintf(u.out, `Get the root key, once, with your first provider:

  curl %s/logosdb/setup -H 'Content-Type: application/json' -d '{"provider_name":"OpenAI","base_url":"https://api.openai.com/v1"}'

Ctrl-C stops everything.
`, admin)
}

// drain lets calls under way end, for a few seconds.
func (u *supervisor) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainFor)
	defer cancel()
	admin := envoy.NewAdmin(u.settings.envoyAdmin)
	defer admin.Close()
	if err := admin.Drain(ctx); err != nil {
		return // Envoy is not there
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := admin.ActiveRequests(ctx)
		if err != nil || n == 0 {
			return
		}
		select {
		case <-ctx.Done():
			u.log.Warn("calls are cut off", zap.Int64("calls", n))
			return
		case <-tick.C:
		}
	}
}
