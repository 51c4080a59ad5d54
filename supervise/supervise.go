// Package supervise keeps child processes running: it starts them, starts them again with back-off when
// they end, and ends them when asked to. It knows nothing of what they do. `logos up` uses it for
// Postgres, `logos serve` and Envoy.
//
// Every child inherits an open, locked file. As long as the child lives, also after its supervisor was
// killed, the lock is held; whoever starts that child next ends the old one first. So there is never
// more than one of each, and no process is taken for another one because its id was used again.
//
// Children run in process groups of their own, so that a Ctrl-C in the terminal reaches the supervisor
// alone, and write to the supervisor's own stdout and stderr, so that nothing breaks if it is killed.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Back-off between the end of a child and its next start. A child that ran for stable is a good one.
const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 5 * time.Second
	stable     = 10 * time.Second
)

// A FinalError says that a child ended with an exit code after which starting it again is useless.
type FinalError struct {
	Name string
	Code int
}

// Error names the child and its exit code.
func (e *FinalError) Error() string {
	return fmt.Sprintf("%s ended with exit code %d and would do so again", e.Name, e.Code)
}

// A Child is one program that is kept running. Name, Lock and Command are required.
type Child struct {
	Name string // for log lines
	Lock string // path of its lock file
	// Command returns a new command for each start. Its stdout and stderr are the supervisor's if they
	// are nil; it is put into a process group of its own.
	Command func() (*exec.Cmd, error)
	Signal  syscall.Signal          // asks it to end; default SIGTERM
	Grace   time.Duration           // between Signal and SIGKILL; default 3 s
	Final   func(code int) bool     // exit codes after which it is not started again; default: none
	Started func(pid int)           // called after each start, may be nil
	Ended   func(ran time.Duration) // called after each unexpected end, may be nil

	mu      sync.Mutex
	process *os.Process
}

// Run starts the child and keeps it running until ctx ends; then it ends it and returns nil. It returns
// a [*FinalError] if the child is not worth starting again, and any other error if the very first start
// was not possible.
//
// Run holds its OS thread for as long as the child lives: Envoy asks the kernel to be ended with the
// thread that started it, and the Go runtime ends threads as it pleases.
func (c *Child) Run(ctx context.Context, log *zap.Logger) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	log = log.With(zap.String("child", c.Name))
	var wait backoff
	for first := true; ; first = false {
		begin := time.Now()
		state, err := c.Once(ctx, log)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case state != nil && c.Final != nil && c.Final(state.ExitCode()):
			return &FinalError{Name: c.Name, Code: state.ExitCode()}
		}
		ran := time.Since(begin)
		if c.Ended != nil {
			c.Ended(ran)
		}
		delay := wait.next(ran)
		how := zap.Error(err)
		if err == nil {
			how = zap.Stringer("end", state)
		}
		log.Warn("a child ended and will be started again", how, zap.Duration("ran", ran.Round(time.Millisecond)), zap.Duration("in", delay))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// Kill sends the child a signal now, if it runs. Unlike the end of Run's context it does not keep it
// from being started again.
func (c *Child) Kill(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		c.process.Signal(sig) // it may have ended just now
	}
}

// Once runs the child to its end, or ends it when ctx ends. Unlike Run it does not hold its OS thread.
func (c *Child) Once(ctx context.Context, log *zap.Logger) (*os.ProcessState, error) {
	lock, err := seize(ctx, c.Lock, c.signal(), c.grace(), log)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := writePID(lock, 0); err != nil {
		return nil, err
	}
	cmd, err := c.Command()
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", c.Name, err)
	}
	dress(cmd, lock)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	c.set(cmd.Process)
	defer c.set(nil)
	err = writePID(lock, cmd.Process.Pid)
	lock.Close() // the child's copy holds the lock from now on
	if err != nil {
		log.Warn("cannot note the child's process id", zap.Error(err))
	}
	log.Debug("started", zap.Int("pid", cmd.Process.Pid))
	if c.Started != nil {
		c.Started(cmd.Process.Pid)
	}
	ended := make(chan struct{})
	var ender sync.WaitGroup
	ender.Go(func() { c.endWith(ctx, ended, log) })
	err = cmd.Wait()
	close(ended)
	ender.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		err = nil // the state says it
	}
	return cmd.ProcessState, err
}

// endWith ends the child when ctx ends, if it has not ended by itself.
func (c *Child) endWith(ctx context.Context, ended <-chan struct{}, log *zap.Logger) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	c.Kill(c.signal())
	select {
	case <-ended:
	case <-time.After(c.grace()):
		log.Warn("a child does not end when asked to; killing it", zap.Duration("grace", c.grace()))
		c.Kill(syscall.SIGKILL)
	}
}

func (c *Child) set(p *os.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = p
}

func (c *Child) signal() syscall.Signal {
	if c.Signal == 0 {
		return syscall.SIGTERM
	}
	return c.Signal
}

func (c *Child) grace() time.Duration {
	if c.Grace == 0 {
		return 3 * time.Second
	}
	return c.Grace
}

// dress gives the command what every child has.
func dress(cmd *exec.Cmd, lock *os.File) {
	if cmd.Stdout == nil {
		cmd.Stdout = os.Stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.ExtraFiles = append(cmd.ExtraFiles, lock)
}

// A backoff is the series of delays before starts.
type backoff struct{ last time.Duration }

// next returns the delay after a child that ran for so long.
func (b *backoff) next(ran time.Duration) time.Duration {
	if ran >= stable || b.last == 0 {
		b.last = firstDelay
	} else {
		b.last = min(2*b.last, maxDelay)
	}
	return b.last
}
