package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// inRunDir matches the files of a run directory that hold calls: what Envoy wrote of them, also before a
// rotation, and the intents.
var inRunDir = regexp.MustCompile(`^(access-[^/]+\.log(\.[0-9]+)?|intents-[0-9]+\.log)$`)

// A file is an open file of a run directory.
type file struct {
	name string
	info fs.FileInfo
	open *os.File
}

// openFiles opens all files that hold calls, in order of name.
func openFiles(dir string) (files []*file, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for access logs (LOGOS_RUN_DIR): %w", err)
	}
	for _, e := range entries {
		if !inRunDir.MatchString(e.Name()) {
			continue
		}
		f, err := openFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was there just now
		}
		if err != nil {
			closeFiles(files)
			return nil, fmt.Errorf("open an access log: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

func openFile(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &file{name: filepath.Base(path), info: info, open: f}, nil
}

func closeFiles(files []*file) {
	for _, f := range files {
		f.open.Close()
	}
}

// sameFiles says whether the same names led to the same files.
func sameFiles(x, y []*file) bool {
	return slices.EqualFunc(x, y, func(a, b *file) bool { return a.name == b.name && os.SameFile(a.info, b.info) })
}

// follow looks at the directory again, some time after the files were opened. Those that were renamed since get the
// names that they have now, and access logs that came are added: they hold lines of calls that had ended by then. A
// log that has no name any more can't be told from its successor: that is errMoved. The caller closes files, also
// those that were added.
func follow(dir string, files []*file) (now []*file, err error) {
	again, err := openFiles(dir)
	if err != nil {
		return files, err
	}
	now = slices.Clone(files)
	for _, f := range files {
		i := slices.IndexFunc(again, func(g *file) bool { return os.SameFile(f.info, g.info) })
		switch {
		case i >= 0:
			f.name = again[i].name
			again[i].open.Close()
			again = slices.Delete(again, i, i+1)
		case f.present():
			closeFiles(again)
			return files, errMoved
		}
	}
	for _, f := range again {
		if f.intents() { // of calls that began since
			f.open.Close()
			continue
		}
		now = append(now, f)
	}
	return now, nil
}

func (f *file) intents() bool { return strings.HasPrefix(f.name, "intents-") }

// present says whether it is a log that Envoy may write to, under a name that passes on to its successor.
func (f *file) present() bool { return !f.intents() && strings.HasSuffix(f.name, ".log") }

// copy writes the lines of the file. A line that is being written is left out: it was not there at the
// moment of the backup. Lines that Envoy wrote since then tell how calls ended that were under way, but no
// call is added that began since then.
func (f *file) copy(to io.Writer) error {
	info, err := f.open.Stat()
	if err != nil {
		return err
	}
	if f.intents() {
		info = f.info
	}
	whole, err := wholeLines(f.open, info.Size())
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.NewSectionReader(f.open, 0, whole))
	return err
}

// wholeLines returns the length of what ends with the last newline among the first size bytes.
func wholeLines(r io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		begin := max(0, end-int64(len(buf)))
		part := buf[:end-begin]
		if _, err := r.ReadAt(part, begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		for i := len(part) - 1; i >= 0; i-- {
			if part[i] == '\n' {
				return begin + int64(i) + 1, nil
			}
		}
		end = begin
	}
	return 0, nil
}
