package accesslog_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

const gateway = "gateway-1"

type callKey struct {
	start int64
	id    logos.CallID
}

// A failure says what a store does with the next batches.
type failure int

const (
	works failure = iota
	refuses
	forgets // stores, but says that it did not, as when the connection breaks in the commit
)

// fakeStore keeps records in memory. Like the real one it stores a batch as a whole, and leaves alone what
// is there.
type fakeStore struct {
	mu        sync.Mutex
	calls     map[callKey]*logos.Call
	times     map[callKey]int // how often it was to be stored
	positions map[string]logos.LogPosition
	unknown   map[logos.LogPosition]string
	failure   failure
	attempted int
	largest   int                  // batch, in calls
	stored    func(logos.LogBatch) // called with each batch that is stored, may be nil
}

func newFakeStore() *fakeStore {
	return &fakeStore{calls: make(map[callKey]*logos.Call), times: make(map[callKey]int), positions: make(map[string]logos.LogPosition), unknown: make(map[logos.LogPosition]string)}
}

var errStore = errors.New("the store is away")

func (s *fakeStore) set(f failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = f
}

func (s *fakeStore) LogPositions(_ context.Context, g string) (out []logos.LogPosition, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g != gateway || s.failure == refuses {
		return nil, errStore
	}
	for _, p := range s.positions {
		out = append(out, p)
	}
	return out, nil
}

func (s *fakeStore) RecordCalls(_ context.Context, g string, b logos.LogBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempted++
	s.largest = max(s.largest, len(b.Calls))
	if g != gateway || s.failure == refuses {
		return errStore
	}
	for _, c := range b.Calls {
		k := callKey{c.Decision.Start, c.ID}
		if s.times[k]++; s.calls[k] == nil {
			s.calls[k] = c
		}
	}
	for _, u := range b.Unknown {
		s.unknown[logos.LogPosition{Epoch: u.Epoch, Generation: u.Generation, Offset: u.Offset}] = string(u.Line)
	}
	for _, p := range b.Positions {
		s.positions[p.Epoch] = p
	}
	for _, e := range b.Done {
		delete(s.positions, e)
	}
	if s.stored != nil {
		s.stored(b)
	}
	if s.failure == forgets {
		return errStore
	}
	return nil
}

func (s *fakeStore) Recorded(_ context.Context, starts []time.Time, ids []logos.CallID) (out []logos.CallID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == refuses {
		return nil, errStore
	}
	for i, id := range ids {
		if s.calls[callKey{starts[i].UnixMicro(), id}] != nil {
			out = append(out, id)
		}
	}
	return out, nil
}

// process imitates an Envoy: it appends to its log, and makes a new one when it is told to, sooner or later.
type process struct {
	t          *testing.T
	path       string
	epoch      string
	mu         sync.Mutex // of what writing and opening anew change
	file       *os.File
	generation int64
	size       int64
	connected  bool
	told       int  // how often it was told to open its log anew
	prompt     bool // makes a new log as soon as it is told to
	torn       bool // the last line is not whole yet
	tears      bool // goes on to a new log also then, as when its disk was full
}

func (p *process) write(text string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		p.open()
	}
	if _, err := p.file.WriteString(text); err != nil {
		p.t.Fatal(err)
	}
	p.size += int64(len(text))
	p.torn = !strings.HasSuffix(text, "\n") && (p.torn || text != "")
}

func (p *process) open() {
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	p.file = f
	p.t.Cleanup(func() { f.Close() })
}

// reopen makes the new log, if the old one was renamed and its last line is whole.
func (p *process) reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil || p.torn && !p.tears {
		return
	}
	if _, err := os.Stat(p.path); err == nil {
		return
	}
	p.file.Close()
	p.open()
	p.generation, p.size, p.torn = p.generation+1, 0, false
}

// fakeEnvoys knows the processes.
type fakeEnvoys struct {
	mu            sync.Mutex
	processes     map[string]*process
	reopenFails   bool
	writeFailures int64
}

func (e *fakeEnvoys) Connected(epoch string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.processes[epoch]
	return p != nil && p.connected
}

func (e *fakeEnvoys) AnyConnected() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.processes {
		if p.connected {
			return true
		}
	}
	return false
}

func (e *fakeEnvoys) Reopen(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reopenFails {
		return errors.New("the admin interface is away")
	}
	for _, p := range e.processes {
		p.told++
		if p.connected && p.prompt {
			p.reopen()
		}
	}
	return nil
}

func (e *fakeEnvoys) WriteFailures(context.Context) (int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.writeFailures, nil
}
