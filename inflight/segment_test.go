package inflight_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/inflight"
)

// files lists the numbers of the segments.
func files(t *testing.T, dir string) (numbers []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "intents-"), ".log"); ok {
			numbers = append(numbers, strings.TrimLeft(n, "0"))
		}
	}
	return numbers
}

func hasFiles(t *testing.T, dir, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Errorf("%s, the files differ (-want +got):\n%s", when, diff)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRemovesASegmentWhenAllOfItEnded(t *testing.T) {
	dir := t.TempDir()
	each := inflight.Options{SegmentBytes: 1} // a file for every call
	c := open(t, dir, each)
	hasFiles(t, dir, "at first", "1")
	begin(t, c, "a", 1)
	begin(t, c, "b", 2)
	begin(t, c, "c", 3)
	hasFiles(t, dir, "with three calls", "1", "2", "3")
	c.End("b")
	hasFiles(t, dir, "after the second ended", "1", "3")
	c.End("c")
	hasFiles(t, dir, "after the current one's ended", "1", "3")
	begin(t, c, "d", 4)
	hasFiles(t, dir, "once the current one is followed", "1", "4")
	c = reopen(t, c, dir, each)
	hasFiles(t, dir, "after a restart", "1", "4", "5")
	begin(t, c, "e", 5)
	c.End("a")
	hasFiles(t, dir, "after a call of a former life ended", "4", "5")
	c.End("d", "e")
	hasFiles(t, dir, "after all ended", "5")
	c = reopen(t, c, dir, each)
	hasFiles(t, dir, "after a restart with only an ended call", "5", "6")
	c.End("e")
	c = reopen(t, c, dir, each)
	defer c.Close()
	hasFiles(t, dir, "after a restart with no call", "7")
}

func TestSegmentsHoldManyCalls(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{SegmentBytes: 400})
	defer c.Close()
	for _, id := range []logos.CallID{"a", "b", "c", "d", "e", "f", "g", "h"} {
		begin(t, c, id, 1)
	}
	all := files(t, dir)
	if len(all) < 2 || len(all) > 4 {
		t.Fatalf("8 calls lie in files %v, want several of about 400 bytes", all)
	}
	for _, n := range all {
		info, err := os.Stat(filepath.Join(dir, "intents-0000000"+n+".log"))
		if err != nil || info.Size() > 400 {
			t.Errorf("file %s has %d bytes (%v), want at most 400", n, info.Size(), err)
		}
	}
	c.End("a")
	hasFiles(t, dir, "with some of the first still open", all...)
}

func TestPassesOverATornLine(t *testing.T) {
	const whole = `{"id":"whole","e":"x","d":{"s":1,"r":1,"p":1,"k":1}}` + "\n"
	const torn = `{"id":"torn","e":"x","d":{"s":2,"r":1,"p":1,"k":1}}`
	for cut := range len(torn) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "intents-00000001.log"), whole+torn[:cut])
		c := open(t, dir, inflight.Options{})
		begin(t, c, "next", 3)
		c = reopen(t, c, dir, inflight.Options{})
		if got := ids(c); got != "whole next" {
			t.Errorf("with a line cut to %q, these are under way: %s", torn[:cut], got)
		}
		c.Close()
	}
}

func TestReadsWhatIsLeftOfDamagedFiles(t *testing.T) {
	line := func(id string) string { return `{"id":"` + id + `","e":"x","d":{"s":1,"r":1,"p":1,"k":1}}` }
	for _, c := range []struct{ name, one, two, want string }{
		{"no newline at the end", line("a"), line("b"), "a b"},
		{"an unreadable line between", line("a") + "\n{\"id\":\n\x00\x00\xff\n" + line("b") + "\n", "", "a b"},
		{"empty lines", "\n\n" + line("a") + "\n\n", "\n", "a"},
		{"a call twice in a file", line("a") + "\n" + line("a") + "\n", "", "a"},
		{"a call twice in two files", line("a") + "\n", line("a") + "\n" + line("b") + "\n", "a b"},
		{"no id", line("") + "\n" + line("b"), "", "b"},
		{"no decision", `{"id":"a","e":"x"}` + "\n" + `{"id":"c","e":"x","d":[]}` + "\n" + line("b"), "", "b"},
		{"a long line", line("a") + "\n" + `{"id":"c","x":"` + strings.Repeat("x", 2<<20) + "\"}\n" + line("b") + "\n", "", "a b"},
		{"nothing", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "intents-00000001.log"), c.one)
			write(t, filepath.Join(dir, "intents-00000002.log"), c.two)
			calls := open(t, dir, inflight.Options{})
			defer calls.Close()
			got := strings.Fields(ids(calls))
			for _, id := range strings.Fields(c.want) {
				if _, ok := calls.Get(logos.CallID(id)); !ok {
					t.Errorf("%s is not under way", id)
				}
				calls.End(logos.CallID(id))
			}
			if calls.Len() != 0 || len(got) != len(strings.Fields(c.want)) {
				t.Errorf("%s are under way, want %s", got, c.want)
			}
			hasFiles(t, dir, "after all ended", "3")
		})
	}
}

func TestRefusesCallsWhileNoFileCanBeStarted(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{SegmentBytes: 1})
	defer c.Close()
	begin(t, c, "a", 1)
	obstacle := filepath.Join(dir, "intents-00000002.log")
	write(t, obstacle, "")
	if err := tryBegin(c, "b", 2, "one"); logos.KindOf(err) != logos.Unavailable || strings.Contains(err.Error(), dir) {
		t.Errorf("a call gives %v, want an error of kind Unavailable without paths", err)
	}
	if c.Uses("one") || ids(c) != "a" {
		t.Errorf("the refused call is under way: %s", ids(c))
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	begin(t, c, "b", 2)
}

func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, inflight.Options{})
	defer c.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("there are %d files (%v), want a segment and a lock", len(entries), err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v), want 0600", e.Name(), info.Mode(), err)
		}
	}
}

func TestASecondOpenerWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		first := open(t, dir, inflight.Options{})
		begin(t, first, "a", 1)
		second := make(chan *inflight.Calls)
		go func() {
			c, err := inflight.Open(t.Context(), dir, inflight.Options{}, zap.NewNop(), prometheus.NewRegistry())
			if err != nil {
				t.Error(err)
			}
			second <- c
		}()
		synctest.Wait()
		select {
		case <-second:
			t.Fatal("the second opener does not wait")
		default:
		}
		begin(t, first, "b", 2)
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		c := <-second
		if c == nil {
			return
		}
		if got := ids(c); got != "a b" {
			t.Errorf("the second opener finds %s, want what the first noted to its end", got)
		}
		c.Close()
	})
}

func TestASecondOpenerGivesUp(t *testing.T) {
	for _, c := range []struct {
		name    string
		opt     inflight.Options
		stopped time.Duration // when the opener's context ends; 0: never
		want    time.Duration
	}{
		{"after ten seconds", inflight.Options{}, 0, 10 * time.Second},
		{"when it was told to", inflight.Options{LockWait: time.Second}, 0, time.Second},
		{"when it is stopped", inflight.Options{}, 3 * time.Second, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				first := open(t, dir, inflight.Options{})
				defer first.Close()
				ctx := t.Context()
				if c.stopped > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.stopped)
					defer cancel()
				}
				start := time.Now()
				_, err := inflight.Open(ctx, dir, c.opt, zap.NewNop(), prometheus.NewRegistry())
				if err == nil || !strings.Contains(err.Error(), "another process keeps its intents in "+dir) {
					t.Errorf("the second opener gets %v", err)
				}
				if waited := time.Since(start); waited != c.want {
					t.Errorf("it waited %v, want %v", waited, c.want)
				}
				begin(t, first, "a", 1)
			})
		})
	}
}

func TestOpenSaysWhatIsWrongWithTheDirectory(t *testing.T) {
	_, err := inflight.Open(t.Context(), filepath.Join(t.TempDir(), "none"), inflight.Options{}, zap.NewNop(), prometheus.NewRegistry())
	if err == nil || !strings.Contains(err.Error(), "open the intents' lock") {
		t.Errorf("a directory that isn't there gives %v", err)
	}
}

func TestDirectoriesMayHaveAnyName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[x]")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir, inflight.Options{})
	begin(t, c, "a", 1)
	c = reopen(t, c, dir, inflight.Options{})
	defer c.Close()
	if got := ids(c); got != "a" {
		t.Errorf("a restart in %s finds %q, want a", dir, got)
	}
}

func TestAnOldSegmentGoesWithItsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := open(t, dir, inflight.Options{SegmentAge: time.Minute})
		defer c.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Maintain(ctx, 1) }()
		pass := func(d time.Duration) {
			time.Sleep(d) // on the bubble's own clock: it takes no time
			synctest.Wait()
		}
		pass(3 * time.Minute)
		hasFiles(t, dir, "without a call", "1")
		begin(t, c, "a", 1)
		begin(t, c, "b", 2)
		c.End("a")
		pass(2 * time.Second)
		hasFiles(t, dir, "after more than a minute", "1", "2")
		c.End("b")
		hasFiles(t, dir, "after its calls ended", "2")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Maintain ends with %v", err)
		}
	})
}

func TestTakesNoCallsWhileTheDiskIsAlmostFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := open(t, t.TempDir(), inflight.Options{})
		defer c.Close()
		maintain := func(minFree int64) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- c.Maintain(ctx, minFree) }()
			synctest.Wait()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Maintain ends with %v", err)
			}
		}
		maintain(1 << 60)
		if err := tryBegin(c, "a", 1); logos.KindOf(err) != logos.Unavailable || !strings.Contains(err.Error(), "disk") {
			t.Errorf("a call gives %v, want an error of kind Unavailable that names the disk", err)
		}
		maintain(1)
		begin(t, c, "a", 1)
	})
}
