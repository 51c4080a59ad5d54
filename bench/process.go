package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// logSuffix ends the names of the files that children write to.
const logSuffix = ".log"

// A child is a process that this program started. Its output goes to a file.
type child struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
}

// start starts a command in a process group of its own, so that a Ctrl-C in the terminal reaches this
// program alone, which then ends its children in order.
func start(cmd *exec.Cmd, name, dir string) (*child, error) {
	c := &child{name: name, cmd: cmd, ended: make(chan struct{})}
	out, err := os.Create(filepath.Join(dir, name+logSuffix))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	started := make(chan error)
	go func() {
		// Envoy asks the kernel to be ended with the thread that started it: this one stays until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // how it ended is in its state
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// hasEnded is an error once the process is no more.
func (c *child) hasEnded() error {
	select {
	case <-c.ended:
		return fmt.Errorf("%s ended too early (%s)", c.name, c.cmd.ProcessState)
	default:
		return nil
	}
}

// stop asks the process to end, and makes it end when it doesn't in time.
func (c *child) stop(sig os.Signal, grace time.Duration) error {
	if err := c.hasEnded(); err != nil {
		return err
	}
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", c.name, err)
	}
	select {
	case <-c.ended:
		return nil
	case <-time.After(grace):
	}
	err := fmt.Errorf("%s did not end within %v of %s and was killed", c.name, grace, sig)
	if kill := c.cmd.Process.Kill(); kill != nil && !errors.Is(kill, os.ErrProcessDone) {
		return errors.Join(err, kill)
	}
	<-c.ended
	return err
}

// lastWords returns the ends of what the children wrote, for one who has to find out why a run failed.
func lastWords(dir string) string {
	const most = 30
	var out strings.Builder
	logs, _ := filepath.Glob(filepath.Join(dir, "*"+logSuffix)) // the pattern is well-formed
	below, _ := filepath.Glob(filepath.Join(dir, "*", "*"+logSuffix))
	logs = append(logs, below...)
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if text = bytes.TrimSpace(text); err != nil || len(text) == 0 {
			continue
		}
		lines := strings.Split(string(text), "\n")
		fmt.Fprintf(&out, "The last words of %s:\n%s\n", strings.TrimSuffix(strings.TrimPrefix(path, dir+"/"), logSuffix), strings.Join(lines[max(0, len(lines)-most):], "\n"))
	}
	return out.String()
}

// freePorts returns addresses on loopback that nobody listens on just now.
func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all are held until all are known, so that no two are the same
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// A mockProcess is the mock provider in a process of its own, whose CPU is not the loader's.
type mockProcess struct {
	*child
	address string
}

// startMock runs this program once more. The mock inherits a listener, so nobody else can get its port,
// and a pipe as its input, so that it ends with this process whatever happens.
func startMock(dir string, gap time.Duration) (*mockProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd := exec.Command(self, mockArgument, gap.String())
	cmd.ExtraFiles = []*os.File{file}
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	c, err := start(cmd, "mock", dir)
	return &mockProcess{child: c, address: listener.Addr().String()}, err
}
