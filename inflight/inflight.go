// Package inflight knows which calls are under way, also across restarts. An intent is appended to a
// local file before Envoy is told to send a call, and ends when the call's outcome is stored. The package
// stores no outcome itself and does not look at the clock of a call's provider: accesslog settles calls
// and ends their intents here; extproc begins them.
//
// An append is one write into the page cache: it survives the death of any process. Files are synced once
// a second, so a power failure may lose the intents of the last second. Ends are not written: after a
// restart every intent in the files is open again until the reader of the access log finds its call stored
// already or settles it, which is idempotent.
package inflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// An Intent is a call that was sent, or is about to be.
type Intent struct {
	ID       logos.CallID
	Epoch    string // of the Envoy process that has it
	Decision *logos.Decision
	segment  *segment
}

// Options says how intents are kept; the zero value works.
type Options struct {
	SegmentBytes int64         // size at which a file is followed by the next; 0: 16 MiB
	SegmentAge   time.Duration // for how long a file is written to, see [Calls.Maintain]; 0: a day
	LockWait     time.Duration // how long to wait for a predecessor; 0: 10 s
	// Ended is told of calls whose intents have ended; nil: nobody is.
	Ended func(...logos.CallID)
}

// Calls holds the calls under way of one gateway. Its methods may be called from any goroutine.
type Calls struct {
	dir   string
	limit int64
	age   time.Duration
	lock  *os.File
	log   *zap.Logger
	ended func(...logos.CallID)

	mu       sync.Mutex
	open     map[logos.CallID]*Intent
	clusters map[string]int // how many open intents name a cluster
	current  *segment
	paused   map[string]string // reason → what to tell the caller
	failed   prometheus.Counter
}

// Open reads what a predecessor left in dir and goes on from there. It waits a while for a predecessor
// that still has the directory, and then gives up.
func Open(ctx context.Context, dir string, opt Options, log *zap.Logger, reg prometheus.Registerer) (*Calls, error) {
	if opt.SegmentBytes == 0 {
		opt.SegmentBytes = 16 << 20
	}
	if opt.SegmentAge == 0 {
		opt.SegmentAge = 24 * time.Hour
	}
	if opt.LockWait == 0 {
		opt.LockWait = 10 * time.Second
	}
	lock, err := lockDir(ctx, dir, opt.LockWait)
	if err != nil {
		return nil, err
	}
	c := &Calls{
		dir: dir, limit: opt.SegmentBytes, age: opt.SegmentAge, lock: lock, log: log, ended: opt.Ended,
		open: make(map[logos.CallID]*Intent), clusters: make(map[string]int), paused: make(map[string]string),
	}
	if err := c.replay(); err != nil {
		lock.Close()
		return nil, err
	}
	factory := promauto.With(reg)
	c.failed = factory.NewCounter(prometheus.CounterOpts{Name: "logos_intents_failed_total", Help: "Calls refused because their intent could not be written."})
	factory.NewGaugeFunc(prometheus.GaugeOpts{Name: "logos_calls_in_flight", Help: "Calls sent whose outcome is not stored yet."},
		func() float64 { return float64(c.Len()) })
	factory.NewGaugeFunc(prometheus.GaugeOpts{Name: "logos_paused", Help: "1 while new calls are refused because they could not be recorded."},
		func() float64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return float64(min(1, len(c.paused)))
		})
	return c, nil
}

// lockDir takes the directory's lock, waiting for who has it.
func lockDir(ctx context.Context, dir string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "intents.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the intents' lock: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock the intents: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another process keeps its intents in %s: stop it, or use another directory", dir)
		case <-tick.C:
		}
	}
}

// Begin notes a call. It refuses, with an error of kind Unavailable, while the gateway could not record
// what becomes of it.
func (c *Calls) Begin(id logos.CallID, epoch string, d *logos.Decision, encoded []byte) error {
	line := make([]byte, 0, len(encoded)+128)
	line = append(line, `{"id":"`...)
	line = append(line, plain(string(id))...)
	line = append(line, `","e":"`...)
	line = append(line, plain(epoch)...)
	line = append(line, `","d":`...)
	line = append(line, encoded...)
	line = append(line, '}', '\n')
	intent := &Intent{ID: id, Epoch: epoch, Decision: d}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, why := range c.paused {
		return logos.Errorf(logos.Unavailable, "gateway_unavailable", "the gateway takes no calls for now: %s", why)
	}
	if c.open[id] != nil {
		return logos.Errorf(logos.Internal, "internal_error", "a call with this request id is under way")
	}
	s, err := c.append(line)
	if err != nil {
		c.failed.Inc()
		c.log.Error("an intent could not be written", zap.Error(err))
		return logos.Errorf(logos.Unavailable, "gateway_unavailable", "the gateway can't record calls at the moment: try again later")
	}
	intent.segment = s
	c.add(intent)
	return nil
}

// plain keeps an id from breaking out of its JSON string; ids that Envoy makes never do.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == '"' || r == '\\' || r > 0x7e {
			return '_'
		}
		return r
	}, s)
}

// add takes an intent into the books. c.mu is held.
func (c *Calls) add(i *Intent) {
	c.open[i.ID] = i
	i.segment.open++
	for _, t := range i.Decision.Targets {
		c.clusters[t.Cluster]++
	}
}

// End closes calls whose outcome is stored. Ids that are not open are passed over.
func (c *Calls) End(ids ...logos.CallID) {
	c.end(ids)
	if c.ended != nil {
		c.ended(ids...)
	}
}

func (c *Calls) end(ids []logos.CallID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		i := c.open[id]
		if i == nil {
			continue
		}
		delete(c.open, id)
		for _, t := range i.Decision.Targets {
			if c.clusters[t.Cluster]--; c.clusters[t.Cluster] <= 0 {
				delete(c.clusters, t.Cluster)
			}
		}
		if i.segment.open--; i.segment.open == 0 && i.segment != c.current {
			i.segment.remove(c.log)
		}
	}
}

// Get returns an open intent.
func (c *Calls) Get(id logos.CallID) (*Intent, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, ok := c.open[id]
	return i, ok
}

// Select returns the open intents for which keep holds, oldest first. keep must be quick.
func (c *Calls) Select(keep func(*Intent) bool) []*Intent {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*Intent
	for _, i := range c.open {
		if keep(i) {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(x, y *Intent) int { return int(x.Decision.Start - y.Decision.Start) })
	return out
}

// Uses says whether an open call may still be sent to a cluster.
func (c *Calls) Uses(cluster string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clusters[cluster] > 0
}

// Len returns how many calls are under way.
func (c *Calls) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Pause refuses new calls for a reason, until [Calls.Resume] with the same one. why is told to callers.
func (c *Calls) Pause(reason, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.paused[reason]; !known {
		c.log.Error("no new calls are taken", zap.String("reason", reason), zap.String("why", why))
	}
	c.paused[reason] = why
}

// Resume ends a pause.
func (c *Calls) Resume(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.paused[reason]; known {
		c.log.Info("new calls are taken again", zap.String("reason", reason))
	}
	delete(c.paused, reason)
}

// Close syncs the files and gives up the directory.
func (c *Calls) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.current.file.Sync()
	return errors.Join(err, c.current.file.Close(), c.lock.Close())
}
