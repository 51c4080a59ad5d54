package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("it is locked by another process")

// poll is how often a condition of another process is looked at.
const poll = 20 * time.Millisecond

// Lock takes the lock of path, making the file if there is none, and writes this process's id into it.
// The lock ends with the file's Close or with the process, also on kill -9. A lock that is held is
// [ErrLocked]; [Holder] then says who has it.
func Lock(path string) (*os.File, error) {
	f, err := tryLock(path)
	if err != nil {
		return nil, err
	}
	if err := writePID(f, os.Getpid()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Holder returns the id of the process that wrote itself into the lock file, or 0.
func Holder(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0
	}
	return pid
}

// TakeOver ends what still holds the lock of path: a child that a killed supervisor left behind. It
// sends sig, then SIGKILL when grace is over, and returns when the lock is free. The lock proves that
// the process is ours, so a process id that was used again is no danger.
func TakeOver(ctx context.Context, path string, sig syscall.Signal, grace time.Duration, log *zap.Logger) error {
	f, err := seize(ctx, path, sig, grace, log)
	if err != nil {
		return err
	}
	return f.Close()
}

// seize takes the lock of path and ends whoever holds it.
func seize(ctx context.Context, path string, sig syscall.Signal, grace time.Duration, log *zap.Logger) (*os.File, error) {
	f, err := tryLock(path)
	if !errors.Is(err, ErrLocked) {
		return f, err
	}
	start := time.Now()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	told := make(map[int]syscall.Signal)
	for {
		want := sig
		if time.Since(start) > grace {
			want = syscall.SIGKILL
		}
		for _, pid := range owners(path) {
			if told[pid] == want {
				continue
			}
			log.Info("ending a process that an earlier run left behind", zap.Int("pid", pid), zap.Stringer("signal", want), zap.String("lock", path))
			if err := syscall.Kill(pid, want); err != nil && !errors.Is(err, syscall.ESRCH) {
				return nil, fmt.Errorf("end process %d, which holds %s: %w", pid, path, err)
			}
			told[pid] = want
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		if f, err = tryLock(path); !errors.Is(err, ErrLocked) {
			return f, err
		}
		if time.Since(start) > grace+5*time.Second {
			return nil, fmt.Errorf("take over %s: a process that cannot be ended holds it (last known: %d)", path, Holder(path))
		}
	}
}

// owners returns the processes to signal: the one that the lock file names and, where /proc tells who
// has the file open, only if it has; else all that have.
func owners(path string) []int {
	named := Holder(path)
	open, known := openedBy(path)
	if !known {
		if named == 0 {
			return nil
		}
		return []int{named}
	}
	for _, pid := range open {
		if pid == named {
			return []int{named}
		}
	}
	return open
}

// openedBy looks through /proc for the processes that have the file open. Where there is no /proc (on
// macOS), known is false.
func openedBy(path string) (pids []int, known bool) {
	want, err := os.Stat(path)
	if err != nil {
		return nil, false
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil || len(fds) == 0 {
		return nil, false
	}
	for _, dir := range fds {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		names, err := os.ReadDir(dir)
		if err != nil {
			continue // gone, or another user's
		}
		for _, n := range names {
			if got, err := os.Stat(filepath.Join(dir, n.Name())); err == nil && os.SameFile(want, got) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, true
}

func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, ErrLocked
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

func writePID(f *os.File, pid int) error {
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("empty lock file: %w", err)
	}
	if pid == 0 {
		return nil
	}
	if _, err := f.WriteAt(fmt.Appendln(nil, pid), 0); err != nil {
		return fmt.Errorf("write process id into lock file: %w", err)
	}
	return nil
}
