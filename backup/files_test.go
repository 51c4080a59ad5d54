package backup

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSeesThatFilesCameOrWent(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	open := func() []*file {
		t.Helper()
		files, err := openFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeFiles(files) })
		return files
	}
	write("access-e.log", "1\n")
	write("intents-00000001.log", "a\n")
	for _, step := range []struct {
		what string
		do   func()
		same bool
	}{
		{"a line was written", func() { write("access-e.log", "2\n") }, true},
		{"what is no log came", func() { write("serve.lock", "2\n") }, true},
		{"a log was rotated", func() { rename("access-e.log", "access-e.log.0") }, false},
		{"a log was rotated and its successor is there", func() {
			write("access-e.log", "3\n")
			open := open()
			rename("access-e.log", "access-e.log.1")
			write("access-e.log", "4\n")
			if err := os.Remove(filepath.Join(dir, "access-e.log.0")); err != nil || len(open) != 3 {
				t.Fatal(err, open)
			}
		}, false},
		{"a log was replaced by one of its name", func() { rename("access-e.log.1", "access-e.log") }, false},
		{"an intents' file went", func() {
			if err := os.Remove(filepath.Join(dir, "intents-00000001.log")); err != nil {
				t.Fatal(err)
			}
		}, false},
	} {
		before := open()
		step.do()
		if same := sameFiles(before, open()); same != step.same {
			t.Errorf("%s: the same is %t", step.what, same)
		}
	}
}

// While a backup waits for the lines of calls that have ended, a log may be rotated: then they are in its successor.
func TestFollowsLogsThatAreRotatedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(path(from), path(to)); err != nil {
			t.Fatal(err)
		}
	}
	put("access-e.log.3", "0\n")
	put("access-e.log", "1\n")
	put("intents-00000001.log", "a\n")
	files, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	move("access-e.log", "access-e.log.4")
	put("access-e.log.5", "2\n")
	put("access-e.log", "3\n")
	put("intents-00000002.log", "b\n")
	if err := os.Remove(path("access-e.log.3")); err != nil {
		t.Fatal(err)
	}
	now, err := follow(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(now)
	got := make(map[string]string)
	for _, f := range now {
		var text strings.Builder
		if err := f.copy(&text); err != nil {
			t.Fatal(err)
		}
		got[f.name] = text.String()
	}
	want := map[string]string{"access-e.log.3": "0\n", "access-e.log.4": "1\n", "access-e.log.5": "2\n", "access-e.log": "3\n", "intents-00000001.log": "a\n"}
	if !maps.Equal(got, want) {
		t.Errorf("the backup would hold %q, want %q", got, want)
	}
	// One that was stored and removed meanwhile has no name that tells it from its successor.
	if err := os.Remove(path("access-e.log")); err != nil {
		t.Fatal(err)
	}
	if _, err := follow(dir, now); !errors.Is(err, errMoved) {
		t.Errorf("with a log that is gone: %v", err)
	}
}

// A file that was removed after the snapshot is backed up all the same, and one that grew is with what it grew
// by: but for intents, which would be of calls that began after the snapshot.
func TestOpenFilesOutliveTheirNames(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, want string }{
		{"access-e.log", "1\n2\n"}, {"access-e.log.7", "1\n2\n"}, {"intents-00000001.log", "1\n"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.open.Close()
		if err := os.WriteFile(path, []byte("1\n2\nto"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := f.copy(&got); err != nil || got.String() != c.want {
			t.Errorf("of %s %q is backed up, %v; want %q", c.name, got.String(), err, c.want)
		}
	}
}

func TestFindsTheEndOfTheLastWholeLine(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	for text, want := range map[string]int{"": 0, "x": 0, "\n": 1, "x\ny": 2, "x\n": 2, long: 0, "x\n" + long: 2, long + "\n" + long: len(long) + 1, long + "\n": len(long) + 1} {
		if got, err := wholeLines(strings.NewReader(text), int64(len(text))); got != int64(want) || err != nil {
			t.Errorf("of %d bytes %d are whole lines, %v; want %d", len(text), got, err, want)
		}
	}
}
