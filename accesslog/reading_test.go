package accesslog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
)

// callText is all lines of call n.
func callText(n int) string {
	return strings.ReplaceAll(lines(startLine, endLine, callLine), "4c3648d3-45cf-4a39-9983-4ec0041b40d3", string(id(n)))
}

// expectCalls checks that calls 1 to n are stored, each once and whole, and nothing is kept aside.
func (w *world) expectCalls(n int) {
	w.t.Helper()
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	for i := 1; i <= n; i++ {
		c := w.store.calls[callKey{1795486584488422, id(i)}]
		if c == nil {
			w.t.Errorf("call %d is not stored", i)
		} else if got, want := describe(c), "ok 200; 1 d1-c1-f8e8a281 ok 200 input=1 output=14"; got != want {
			w.t.Errorf("call %d is stored as %s, want %s", i, got, want)
		}
	}
	if len(w.store.calls) != n || len(w.store.unknown) != 0 {
		w.t.Errorf("%d calls are stored and %d lines kept aside, want %d and none", len(w.store.calls), len(w.store.unknown), n)
	}
}

// logs lists the files of an epoch.
func (w *world) logs(epoch string) (names []string) {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir, "access-"+epoch+".log*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

func TestTakesLinesThatAreCutAtAnyByte(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.start()
		w.pass(300 * time.Millisecond)
		n := len(callText(0)) // ids are of one length
		for cut := range n {
			text := callText(cut + 1)
			p.write(text[:cut])
			w.pass(20 * time.Millisecond)
			p.write(text[cut:])
		}
		w.pass(time.Second)
		w.expectCalls(n)
	})
}

// The log is renamed as soon as anything is in it; the new one appears later. Whatever comes between, and
// wherever the reader is started anew, each call is stored once.
func TestLosesNothingWhileALogIsRotated(t *testing.T) {
	for _, c := range []struct{ atRename, late, torn int }{
		{0, 0, 0}, {1, 0, 0}, {1, 0, 1}, {1, 0, 200}, {0, 5, 0}, {1, 5, 100}, {2, 1, 300}, // calls after the rename, periods until the new file, bytes cut off by the rename
	} {
		for restart := range 7 { // none, or a stop or a crash at one of three moments
			t.Run(fmt.Sprintf("%+v restart %d", c, restart), func(t *testing.T) {
				inWorld(t, accesslog.Options{RotateBytes: 1}, func(t *testing.T, w *world) {
					again := func(moment int) {
						switch restart {
						case 1 + moment:
							w.stop()
						case 4 + moment:
							w.crash()
						default:
							return
						}
						w.start()
					}
					p := w.envoy("e")
					p.prompt = false
					w.start()
					calls := 1
					next := callText(2)
					p.write(callText(1) + next[:c.torn])
					again(0)
					w.pass(600 * time.Millisecond)
					if p.told == 0 {
						t.Fatal("Envoy is not told to start a new log")
					}
					for i := range c.atRename { // Envoy goes on in the renamed file
						calls++
						p.write(callText(calls)[c.torn*min(1, 1-i):])
						again(1)
						w.pass(20 * time.Millisecond)
					}
					w.pass(time.Duration(c.late) * 300 * time.Millisecond)
					p.reopen()
					again(2)
					if c.late%2 == 0 {
						w.pass(300 * time.Millisecond) // the new file is there and empty
					}
					calls++
					p.write(callText(calls))
					w.pass(600 * time.Millisecond)
					p.reopen()
					calls++
					p.write(callText(calls))
					w.pass(600 * time.Millisecond)
					w.expectCalls(calls)
					if diff := cmp.Diff([]string{"access-e.log.2"}, w.logs("e")); diff != "" {
						t.Errorf("files that are left (-want +got):\n%s", diff)
					}
				})
			})
		}
	}
}

func TestAsksAgainForALogThatDoesNotAppear(t *testing.T) {
	inWorld(t, accesslog.Options{RotateBytes: 1}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.envoys.reopenFails = true
		p.write(callText(1))
		w.start()
		w.pass(time.Second)
		if p.told != 0 || len(w.logs("e")) != 1 {
			t.Fatalf("Envoy was told %d times, files %v", p.told, w.logs("e"))
		}
		w.envoys.mu.Lock()
		w.envoys.reopenFails = false
		w.envoys.mu.Unlock()
		w.pass(time.Second)
		p.write(callText(2))
		w.pass(time.Second)
		w.expectCalls(2)
	})
}

func TestRemovesALogWithoutCalls(t *testing.T) {
	inWorld(t, accesslog.Options{RotateBytes: 1}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		w.start()
		for range 4 {
			p.write(of(1, set(callLine, "d", "null")))
			w.pass(600 * time.Millisecond)
		}
		if logs := w.logs("e"); len(logs) > 1 || p.generation < 3 {
			t.Errorf("after %d rotations, %v are left", p.generation, logs)
		}
	})
}

// What is stored of a call does not stay on disk as well, however few calls there are.
func TestRemovesALogThatIsOld(t *testing.T) {
	inWorld(t, accesslog.Options{RotateAfter: time.Minute}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		p.write("")
		w.start()
		w.pass(2 * time.Minute)
		if p.told != 0 {
			t.Error("a log without calls is rotated")
		}
		p.write(callText(1))
		w.pass(59 * time.Second)
		if p.generation != 0 {
			t.Error("a log of less than a minute is rotated")
		}
		w.pass(2 * time.Minute)
		if logs := w.logs("e"); len(logs) != 1 || p.generation != 1 || p.size != 0 {
			t.Errorf("after a minute and %d rotations, %v are left", p.generation, logs)
		}
		w.expectCalls(1)
	})
}

func TestRemovesAnOldLogHoweverOftenItIsStarted(t *testing.T) {
	inWorld(t, accesslog.Options{RotateAfter: 24 * time.Second}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		p.write("")
		w.start()
		p.write(callText(1))
		for range 5 {
			w.pass(3 * time.Second)
			w.stop()
			w.start()
		}
		if logs := w.logs("e"); len(logs) != 1 || p.generation != 1 || p.size != 0 {
			t.Errorf("after %d rotations, %v are left", p.generation, logs)
		}
		w.expectCalls(1)
	})
}

func TestPassesOverALineThatIsTooLong(t *testing.T) {
	const long = 9 << 20
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %t", restart), func(t *testing.T) {
			inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
				p := w.envoy("e")
				w.start()
				p.write(callText(1) + strings.Repeat("x", long-1<<20))
				w.pass(time.Second)
				begin := logos.LogPosition{Epoch: "e", Offset: int64(len(callText(1)))}
				if w.store.unknown[begin] == "" {
					t.Error("a line without end is waited for")
				}
				if restart {
					w.crash()
					w.start()
				}
				p.write(strings.Repeat("x", 1<<20+10) + "\n" + callText(2))
				w.pass(time.Second)
				if got := w.store.unknown[begin]; got != strings.Repeat("x", 64<<10) {
					t.Errorf("%d bytes of the line are kept aside, want 64 KiB", len(got))
				}
				if len(w.store.unknown) > 1 && !restart {
					t.Errorf("%d parts of the line are kept aside", len(w.store.unknown))
				}
				clear(w.store.unknown)
				w.expectCalls(2)
			})
		})
	}
}

func TestKeepsAsideTheTornTailOfADeadEnvoy(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p, next := w.envoy("e"), w.envoy("f")
		p.write(callText(1) + callLine[:100])
		w.start()
		w.pass(time.Second)
		w.disconnect(p)
		next.write(callText(2))
		w.pass(5 * time.Second)
		want := map[logos.LogPosition]string{{Epoch: "e", Offset: int64(len(callText(1)))}: callLine[:100]}
		if diff := cmp.Diff(want, w.store.unknown); diff != "" {
			t.Errorf("kept aside (-want +got):\n%s", diff)
		}
		if logs := w.logs("e"); len(logs) != 0 || len(w.logs("f")) != 1 {
			t.Errorf("the dead Envoy's logs %v are left, and of the other's %v", logs, w.logs("f"))
		}
		if _, left := w.store.positions["e"]; left {
			t.Error("the dead Envoy's position is left")
		}
		clear(w.store.unknown)
		w.expectCalls(2)
	})
}

// As a full disk leaves it: Envoy wrote half a line and was told to start a new file then.
func TestKeepsAsideTheTornTailOfARotatedLog(t *testing.T) {
	inWorld(t, accesslog.Options{RotateBytes: 1}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		p.tears = true
		p.write(callText(1) + callLine[:100])
		w.start()
		w.pass(time.Second)
		p.write(callText(2))
		w.pass(time.Second)
		want := map[logos.LogPosition]string{{Epoch: "e", Offset: int64(len(callText(1)))}: callLine[:100]}
		if diff := cmp.Diff(want, w.store.unknown); diff != "" {
			t.Errorf("kept aside (-want +got):\n%s", diff)
		}
		clear(w.store.unknown)
		w.expectCalls(2)
	})
}

func TestReadsNothingTwiceAfterARestart(t *testing.T) {
	inWorld(t, accesslog.Options{}, func(t *testing.T, w *world) {
		p := w.envoy("e")
		p.write(callText(1))
		w.start()
		w.pass(time.Second)
		w.stop()
		at := w.store.positions["e"]
		if want := (logos.LogPosition{Epoch: "e", Offset: int64(len(callText(1)))}); at != want {
			t.Fatalf("the stored position is %+v, want %+v", at, want)
		}
		// What stands before the position is not looked at again.
		if err := os.WriteFile(p.path, []byte(strings.Repeat("\n", len(callText(1)))), 0o600); err != nil {
			t.Fatal(err)
		}
		w.start()
		p.write(callText(2))
		w.pass(time.Second)
		w.expectCalls(2)
	})
}
