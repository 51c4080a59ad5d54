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

// copy writes the lines of the file. A line that is being written is left out: it was not there at the
// moment of the backup. Lines that Envoy wrote since then tell how calls ended that were under way, but no
// call is added that began since then.
func (f *file) copy(to io.Writer) error {
	info, err := f.open.Stat()
	if err != nil {
		return err
	}
	if strings.HasPrefix(f.name, "intents-") {
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
