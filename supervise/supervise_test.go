package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// The test binary is its own fake child: what it does is in FAKE_CHILD.
func TestMain(m *testing.M) {
	switch role := os.Getenv("FAKE_CHILD"); {
	case role == "":
		os.Exit(m.Run())
	case strings.HasPrefix(role, "exit "):
		var code int
		fmt.Sscanf(role, "exit %d", &code)
		os.Exit(code)
	case role == "stubborn":
		signal.Ignore(syscall.SIGTERM)
		select {}
	case role == "supervisor": // starts a child and is killed with it running
		child := fake(os.Getenv("FAKE_LOCK"), os.Getenv("FAKE_ROLE"))
		child.Started = func(pid int) {
			os.WriteFile(os.Getenv("FAKE_LOCK")+".started", fmt.Appendln(nil, pid), 0o600)
		}
		child.Run(context.Background(), zap.NewNop())
	default: // "run"
		select {}
	}
}

func fake(lock, role string) *Child {
	return &Child{Name: "fake", Lock: lock, Grace: 2 * time.Second, Command: func() (*exec.Cmd, error) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "FAKE_CHILD="+role)
		return cmd, nil
	}}
}

// run runs the child and returns what it started, and how to stop it and get Run's result.
func run(t *testing.T, c *Child) (started chan int, stop func() error) {
	t.Helper()
	started = make(chan int, 100)
	c.Started = func(pid int) { started <- pid }
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.Run(ctx, zaptest.NewLogger(t)) }()
	return started, func() error { cancel(); return <-result }
}

func wait[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStartsAKilledChildAgain(t *testing.T) {
	started, stop := run(t, fake(filepath.Join(t.TempDir(), "lock"), "run"))
	first := wait(t, started)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := wait(t, started)
	if first == second {
		t.Error("the same process was started twice")
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if alive(second) {
		t.Error("the child outlives Run")
	}
}

func TestKillsAChildThatDoesNotEnd(t *testing.T) {
	c := fake(filepath.Join(t.TempDir(), "lock"), "stubborn")
	c.Grace = 50 * time.Millisecond
	started, stop := run(t, c)
	pid := wait(t, started)
	if err := stop(); err != nil || alive(pid) {
		t.Errorf("stop: %v; alive: %t", err, alive(pid))
	}
}

func TestFinalExitCodeEndsRun(t *testing.T) {
	c := fake(filepath.Join(t.TempDir(), "lock"), "exit 78")
	c.Final = func(code int) bool { return code == 78 }
	err := c.Run(t.Context(), zaptest.NewLogger(t))
	if final, ok := errors.AsType[*FinalError](err); !ok || final.Code != 78 {
		t.Errorf("Run ended with %v", err)
	}
}

func TestImpossibleFirstStartIsAnError(t *testing.T) {
	c := fake(filepath.Join(t.TempDir(), "lock"), "run")
	c.Command = func() (*exec.Cmd, error) { return exec.Command(filepath.Join(t.TempDir(), "none")), nil }
	if err := c.Run(t.Context(), zaptest.NewLogger(t)); err == nil {
		t.Error("a program that does not exist was started")
	}
}

func TestBackOffGrowsAndIsForgotten(t *testing.T) {
	var b backoff
	var got []time.Duration
	for range 8 {
		got = append(got, b.next(time.Second))
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000}
	for i := range want {
		if got[i] != want[i]*time.Millisecond {
			t.Fatalf("delays are %v", got)
		}
	}
	if d := b.next(stable); d != firstDelay {
		t.Errorf("after a stable run the delay is %v", d)
	}
}

func TestLockIsExclusiveAndNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("the second Lock gives %v", err)
	}
	if Holder(path) != os.Getpid() {
		t.Errorf("holder is %d", Holder(path))
	}
	f.Close()
	again, err := Lock(path)
	if err != nil {
		t.Fatalf("after the holder's end: %v", err)
	}
	again.Close()
}

// What a supervisor killed by kill -9 leaves behind is ended by the next, also where it ignores SIGTERM
// and where its process id was never noted.
func TestTakesOverAnOrphan(t *testing.T) {
	for _, tt := range []struct {
		name, role string
		forget     bool
	}{
		{"obedient", "run", false},
		{"stubborn", "stubborn", false},
		{"without a noted id", "run", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.forget {
				if _, err := os.Stat("/proc/self/fd"); err != nil {
					t.Skip("there is no /proc to find it by")
				}
			}
			lock := filepath.Join(t.TempDir(), "lock")
			supervisor := exec.Command(os.Args[0])
			supervisor.Env = append(os.Environ(), "FAKE_CHILD=supervisor", "FAKE_ROLE="+tt.role, "FAKE_LOCK="+lock)
			if err := supervisor.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(10 * time.Second); Holder(lock+".started") == 0; time.Sleep(poll) {
				if time.Now().After(deadline) {
					t.Fatal("the supervisor starts nothing")
				}
			}
			supervisor.Process.Kill()
			supervisor.Wait()
			orphan := Holder(lock)
			if !alive(orphan) {
				t.Fatal("the child died with its supervisor; there is nothing to take over")
			}
			if tt.forget {
				if err := os.Truncate(lock, 0); err != nil {
					t.Fatal(err)
				}
			}
			if err := TakeOver(t.Context(), lock, syscall.SIGTERM, 200*time.Millisecond, zaptest.NewLogger(t)); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(10 * time.Second); alive(orphan) && !zombie(orphan); time.Sleep(poll) {
				if time.Now().After(deadline) {
					t.Fatal("the orphan lives on")
				}
			}
		})
	}
}

// zombie says whether a process has ended and only waits to be reaped (in a container without an init).
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
