package inflight

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/ls1intum/edutelligence/logos"
)

// A segment is one file of intents, one JSON object a line.
type segment struct {
	path string
	file *os.File // of the current segment only
	size int64
	open int // intents in it that have not ended
	made time.Time
}

func (s *segment) remove(log *zap.Logger) {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Warn("a file of ended intents could not be removed", zap.Error(err))
	}
}

// record is an intent on disk.
type record struct {
	ID       logos.CallID    `json:"id"`
	Epoch    string          `json:"e"`
	Decision json.RawMessage `json:"d"`
}

// append writes a line. What a failed write left is overwritten by the next. c.mu is held.
func (c *Calls) append(line []byte) (*segment, error) {
	if c.current.size > 0 && c.current.size+int64(len(line)) > c.limit {
		if err := c.next(); err != nil {
			return nil, err
		}
	}
	s := c.current
	if _, err := s.file.WriteAt(line, s.size); err != nil {
		return nil, errors.Join(fmt.Errorf("append an intent: %w", err), s.file.Truncate(s.size))
	}
	s.size += int64(len(line))
	return s, nil
}

// next starts a new segment. c.mu is held, or nobody else has c yet.
func (c *Calls) next() error {
	n := 1
	if c.current != nil {
		n = number(c.current.path) + 1
	}
	path := filepath.Join(c.dir, fmt.Sprintf("intents-%08d.log", n))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start a file of intents: %w", err)
	}
	old := c.current
	c.current = &segment{path: path, file: file, made: time.Now()}
	if old != nil && old.file != nil {
		if err := errors.Join(old.file.Sync(), old.file.Close()); err != nil {
			c.log.Warn("a file of intents was not closed cleanly", zap.Error(err))
		}
		old.file = nil
		if old.open == 0 {
			old.remove(c.log)
		}
	}
	return nil
}

func number(path string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "intents-"), ".log"))
	return n
}

// replay opens the intents of all segments, and starts a new one.
func (c *Calls) replay() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return fmt.Errorf("list intents: %w", err)
	}
	var paths []string // ReadDir sorts, and numbers have leading zeros
	for _, e := range entries {
		if ok, _ := filepath.Match("intents-*.log", e.Name()); ok {
			paths = append(paths, filepath.Join(c.dir, e.Name()))
		}
	}
	for _, path := range paths {
		s := &segment{path: path}
		if err := c.replaySegment(s); err != nil {
			return err
		}
		if s.open == 0 && path != paths[len(paths)-1] {
			s.remove(c.log)
		}
		c.current = s
	}
	last := c.current
	if err := c.next(); err != nil {
		return err
	}
	if last != nil && last.open == 0 {
		last.remove(c.log)
	}
	return nil
}

// replaySegment opens the intents of one file. A line that was cut by a crash was never answered, so it
// is passed over.
func (c *Calls) replaySegment(s *segment) error {
	f, err := os.Open(s.path)
	if err != nil {
		return fmt.Errorf("read intents: %w", err)
	}
	defer f.Close()
	lines := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read intents: %w", err)
		}
		if i, ok := parse(bytes.TrimSpace(line)); ok {
			i.segment = s
			if c.open[i.ID] == nil {
				c.add(i)
			}
		} else if len(line) > 1 {
			c.log.Warn("an intent is not readable and is passed over", zap.String("file", filepath.Base(s.path)))
		}
		if err != nil {
			return nil
		}
	}
}

func parse(line []byte) (*Intent, bool) {
	var r record
	if len(line) == 0 || json.Unmarshal(line, &r) != nil || r.ID == "" {
		return nil, false
	}
	d := &logos.Decision{}
	if json.Unmarshal(r.Decision, d) != nil {
		return nil, false
	}
	return &Intent{ID: r.ID, Epoch: r.Epoch, Decision: d}, true
}

// Maintain syncs the files every second and refuses new calls while the disk of the directory has less
// than minFree bytes left, until ctx ends. An old file is followed by the next, so that what it says of end
// users goes once its calls have ended.
func (c *Calls) Maintain(ctx context.Context, minFree int64) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		c.sync()
		c.followOld()
		c.watchSpace(minFree)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Calls) sync() {
	c.mu.Lock()
	file := c.current.file
	c.mu.Unlock()
	// A segment that was followed by the next meanwhile was synced then.
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		c.log.Warn("intents could not be synced", zap.Error(err))
	}
}

func (c *Calls) followOld() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current.size == 0 || time.Since(c.current.made) < c.age {
		return
	}
	if err := c.next(); err != nil {
		c.log.Warn("a file of intents is old and can't be followed by a new one", zap.Error(err))
	}
}

func (c *Calls) watchSpace(minFree int64) {
	const reason = "disk"
	free, err := freeBytes(c.dir)
	switch {
	case err != nil:
		c.log.Warn("free space can't be read", zap.Error(err))
	case free < minFree:
		c.Pause(reason, "its disk is almost full")
	case free > minFree+minFree/10:
		c.Resume(reason)
	}
}

func freeBytes(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("statfs: %w", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
