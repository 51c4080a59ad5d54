package accesslog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
)

const (
	waits  = `{"c":0,"f":"-","id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","k":"d1-c1-f8e8a281","ms":998,"s":"1795581879.933849","t":"UpstreamPeriodic"}` + "\n"
	begins = `{"c":200,"f":"-","fb":2504,"id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","k":"d1-c1-f8e8a281","ms":2997,"s":"1795581879.933849","t":"UpstreamPeriodic"}` + "\n"
	ends   = `{"c":429,"f":"-","fb":0,"id":"4c3648d3-45cf-4a39-9983-4ec0041b40d3","k":"d1-c1-f8e8a281","ms":12,"ra":"7","s":"1795581879.933849","t":"UpstreamEnd"}` + "\n"
)

// A liveWorld is a directory in which Envoy writes, in the time of a bubble.
type liveWorld struct {
	t    *testing.T
	dir  string
	mu   sync.Mutex
	told []logos.AttemptSign
}

func (w *liveWorld) path(name string) string { return filepath.Join(w.dir, name) }

// write appends to a file as Envoy does.
func (w *liveWorld) write(name, text string) {
	w.t.Helper()
	f, err := os.OpenFile(w.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		w.t.Fatal(err)
	}
	w.age(name, 0) // the file system knows nothing of the bubble
}

// age sets for how long a file was not written to.
func (w *liveWorld) age(name string, d time.Duration) {
	w.t.Helper()
	if err := os.Chtimes(w.path(name), time.Time{}, time.Now().Add(-d)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *liveWorld) signs() []logos.AttemptSign {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

func (w *liveWorld) count() int { return len(w.signs()) }

// inLiveWorld runs a reader while test does.
func inLiveWorld(t *testing.T, before, test func(*liveWorld)) {
	w := &liveWorld{t: t, dir: t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		w.t = t
		before(w)
		ctx, cancel := context.WithCancel(t.Context())
		l := accesslog.NewLive(w.dir, func(s logos.AttemptSign) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, s)
		}, zap.NewNop())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		test(w)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func nothing(*liveWorld) {}

func TestTellsWhatAttemptsDo(t *testing.T) {
	t.Parallel()
	inLiveWorld(t, nothing, func(w *liveWorld) {
		w.write("live-e.log", waits+begins+ends)
		time.Sleep(1100 * time.Millisecond)
		at := time.UnixMicro(1795581879933849).UTC()
		sign := logos.AttemptSign{Call: "4c3648d3-45cf-4a39-9983-4ec0041b40d3", Cluster: "d1-c1-f8e8a281", Start: at, Age: 998 * time.Millisecond, FirstByte: -1}
		first, end := sign, sign
		first.Age, first.FirstByte, first.Status = 2997*time.Millisecond, 2504*time.Millisecond, 200
		end.Age, end.FirstByte, end.Status, end.Ended, end.Wait = 12*time.Millisecond, 0, 429, true, 7*time.Second
		if diff := cmp.Diff([]logos.AttemptSign{sign, first, end}, w.signs()); diff != "" {
			t.Errorf("signs differ (-want +got):\n%s", diff)
		}
	})
}

func TestTellsHowAttemptsFail(t *testing.T) {
	t.Parallel()
	inLiveWorld(t, nothing, func(w *liveWorld) {
		for _, flags := range []string{"UF", "UC", "UPE", "UT", "-", "UT,URX"} {
			w.write("live-e.log", strings.ReplaceAll(ends, `"f":"-"`, `"f":"`+flags+`"`))
		}
		time.Sleep(1100 * time.Millisecond)
		got := ""
		for _, s := range w.signs() {
			got += fmt.Sprintf("%t %t, ", s.Broken, s.TimedOut)
		}
		if want := "true false, true false, true false, false true, false false, false true, "; got != want {
			t.Errorf("attempts are broken and timed out: %s, want %s", got, want)
		}
	})
}

func TestPassesOverWhatIsNoSign(t *testing.T) {
	t.Parallel()
	inLiveWorld(t, nothing, func(w *liveWorld) {
		w.write("live-e.log", "x\n\n{}\n"+strings.ReplaceAll(waits, `"ms":998`, `"ms":"998"`)+strings.ReplaceAll(waits, `"s":"1795581879.933849"`, `"s":"-"`)+waits[:40])
		time.Sleep(1100 * time.Millisecond)
		if n := w.count(); n != 0 {
			t.Errorf("%d signs are told", n)
		}
		w.write("live-e.log", waits[40:]+begins)
		time.Sleep(100 * time.Millisecond)
		if n := w.count(); n != 2 {
			t.Errorf("%d signs are told, want a line that came in two parts and the next", n)
		}
	})
}

func TestDoesNotTellWhatIsPast(t *testing.T) {
	t.Parallel()
	inLiveWorld(t, func(w *liveWorld) {
		w.write("live-e.log", strings.Repeat(waits, 100)+waits[:20])
		w.age("live-e.log", time.Second)
	}, func(w *liveWorld) {
		time.Sleep(time.Second)
		if n := w.count(); n != 0 {
			t.Errorf("%d signs are told", n)
		}
		w.write("live-e.log", waits[20:]+begins)
		time.Sleep(100 * time.Millisecond)
		if n := w.count(); n != 1 {
			t.Errorf("%d signs are told, want the one that is whole", n)
		}
	})
}

// Envoy appends, so a file that is emptied goes on at its beginning.
func TestALiveFileStaysSmall(t *testing.T) {
	t.Parallel()
	inLiveWorld(t, nothing, func(w *liveWorld) {
		lines := strings.Repeat(waits, 1000)
		for range 40 {
			w.write("live-e.log", lines)
			time.Sleep(time.Second)
		}
		info, err := os.Stat(w.path("live-e.log"))
		if err != nil || info.Size() > 2<<20 {
			t.Errorf("the file has %v bytes, %v", info.Size(), err)
		}
		if n := w.count(); n != 40_000 {
			t.Errorf("%d signs are told", n)
		}
	})
}

func TestTheFileOfAnEnvoyThatIsGoneIsDeleted(t *testing.T) {
	t.Parallel()
	inLiveWorld(t, func(w *liveWorld) {
		for _, epoch := range []string{"gone", "idle", "new"} {
			w.write("live-"+epoch+".log", waits)
		}
		w.write("access-idle.log.3", "")
		w.age("live-gone.log", time.Hour)
		w.age("live-idle.log", time.Hour)
	}, func(w *liveWorld) {
		time.Sleep(10 * time.Second)
		for name, want := range map[string]bool{"live-gone.log": false, "live-idle.log": true, "live-new.log": true} {
			if _, err := os.Stat(w.path(name)); (err == nil) != want {
				t.Errorf("%s is there: %t", name, err == nil)
			}
		}
	})
}
