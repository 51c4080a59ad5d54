package accesslog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ls1intum/edutelligence/logos"
)

const signID = "4c3648d3-45cf-4a39-9983-4ec0041b40d3"

func signLineOf(kind, rest string) string {
	return fmt.Sprintf(`{"id":%q,"k":"d1-c1-f8e8a281","ms":1500,"s":"1795486584.492945","t":%q%s}`, signID, kind, rest) + "\n"
}

func TestReadsSignsOfAttempts(t *testing.T) {
	t.Parallel()
	start := time.UnixMicro(1795486584492945).UTC()
	for line, want := range map[string]logos.AttemptSign{
		signLineOf("UpstreamPeriodic", ""):                            {Call: signID, Cluster: "d1-c1-f8e8a281", Start: start, Age: 1500 * time.Millisecond, FirstByte: -1},
		signLineOf("UpstreamPeriodic", `,"c":200,"fb":300`):           {Call: signID, Cluster: "d1-c1-f8e8a281", Start: start, Age: 1500 * time.Millisecond, FirstByte: 300 * time.Millisecond, Status: 200},
		signLineOf("UpstreamEnd", `,"c":429,"ra":"7"`):                {Call: signID, Cluster: "d1-c1-f8e8a281", Start: start, Age: 1500 * time.Millisecond, FirstByte: -1, Status: 429, Ended: true, Wait: 7 * time.Second},
		signLineOf("UpstreamEnd", `,"c":0,"f":"UF"`):                  {Call: signID, Cluster: "d1-c1-f8e8a281", Start: start, Age: 1500 * time.Millisecond, FirstByte: -1, Ended: true, Broken: true},
		signLineOf("UpstreamEnd", `,"c":0,"f":"UT","fb":null`):        {Call: signID, Cluster: "d1-c1-f8e8a281", Start: start, Age: 1500 * time.Millisecond, FirstByte: -1, Ended: true, TimedOut: true},
		signLineOf("UpstreamEnd", `,"c":429,"rr":"1s","rt":"6m0.5s"`): {Call: signID, Cluster: "d1-c1-f8e8a281", Start: start, Age: 1500 * time.Millisecond, FirstByte: -1, Status: 429, Ended: true, Wait: 6*time.Minute + 500*time.Millisecond},
	} {
		if got, ok := parseSign([]byte(line[:len(line)-1])); !ok || got != want {
			t.Errorf("%s is read as %+v, %v; want %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", "{", `{"t":"UpstreamEnd"}`, `{"id":"x","t":"UpstreamEnd","s":"1.000000"}`} {
		if got, ok := parseSign([]byte(line)); ok {
			t.Errorf("%q is read as %+v", line, got)
		}
	}
}

// What an Envoy writes is passed on, whole lines alone; a file that grows is emptied; one of an Envoy that is
// gone is removed.
func TestFollowsWhatEnvoysWriteOfAttempts(t *testing.T) {
	t.Parallel()
	dir, signs := t.TempDir(), 0
	l := NewLive(dir, func(logos.AttemptSign) { signs++ }, zap.NewNop())
	defer l.close()
	access, live := filepath.Join(dir, "access-e1.log"), filepath.Join(dir, "live-e1.log")
	if err := os.WriteFile(access, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(live, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := signLineOf("UpstreamPeriodic", "")
	expect := func(what string, n int) {
		t.Helper()
		l.discover(time.Now().Add(-time.Hour), time.Now())
		for _, f := range l.files {
			l.read(f)
		}
		if signs != n {
			t.Errorf("%s: %d signs were passed on, want %d", what, signs, n)
		}
		signs = 0
	}
	for _, c := range []struct {
		what, text string
		want       int
	}{
		{"a line and a torn one", line + line[:20], 1},
		{"the rest of it, and one that is none", line[20:] + "no line at all\n" + line, 2},
		{"many", strings.Repeat(line, (maxLive+100<<10)/len(line)), (maxLive + 100<<10) / len(line)},
	} {
		if _, err := f.WriteString(c.text); err != nil {
			t.Fatal(err)
		}
		expect(c.what, c.want)
	}
	if info, err := os.Stat(live); err != nil || info.Size() != 0 {
		t.Errorf("the long file is still there: %v, %v", info, err)
	}
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
	expect("one after it was emptied", 1)
	if err := os.Remove(access); err != nil {
		t.Fatal(err)
	}
	l.discover(time.Now(), time.Now().Add(2*youngLive))
	if _, err := os.Stat(live); !os.IsNotExist(err) || len(l.files) != 0 {
		t.Errorf("the file of an Envoy that is gone stays: %v", err)
	}
}

// What was written before this process began is no news.
func TestReadsNoOldSigns(t *testing.T) {
	t.Parallel()
	dir, signs := t.TempDir(), 0
	l := NewLive(dir, func(logos.AttemptSign) { signs++ }, zap.NewNop())
	defer l.close()
	for _, name := range []string{"access-e1.log", "live-e1.log"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(signLineOf("UpstreamEnd", "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.discover(time.Now().Add(time.Minute), time.Now())
	for _, f := range l.files {
		l.read(f)
	}
	if signs != 0 || len(l.files) != 1 {
		t.Errorf("%d signs from before are passed on, of %d files", signs, len(l.files))
	}
}

// A file that somebody rotated away or emptied is read on, and trouble that lasts is told once, not each second.
func TestFilesThatOthersTouchAreFollowed(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.WarnLevel)
	dir, signs := t.TempDir(), 0
	l := NewLive(dir, func(logos.AttemptSign) { signs++ }, zap.New(core))
	defer l.close()
	live, line := filepath.Join(dir, "live-e1.log"), signLineOf("UpstreamEnd", "")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func() {
		l.discover(time.Now().Add(-time.Hour), time.Now())
		for _, f := range l.files {
			l.read(f)
		}
	}
	write("access-e1.log", "")
	write("access-e2.log", "")
	write("live-e1.log", line+line)
	if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "live-e2.log")); err != nil {
		t.Fatal(err)
	}
	look()
	if err := os.Rename(live, live+".1"); err != nil {
		t.Fatal(err)
	}
	write("live-e1.log", line+line+line)
	look()
	write("live-e1.log", line) // emptied, and written to
	for range 3 {
		look()
	}
	if signs != 6 {
		t.Errorf("%d signs were passed on, want 6", signs)
	}
	if logged.Len() != 1 {
		t.Errorf("logged is %v", logged.All())
	}
}
