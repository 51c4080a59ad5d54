package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	chunkBytes = 1 << 20
	// maxLine bounds a line; a longer one is passed over to the next newline.
	maxLine = 4 << 20
	// maxKept bounds what is kept of a line that is not understood.
	maxKept = 64 << 10
)

// A position is a byte in the log of one epoch.
type position struct{ generation, offset int64 }

func (p position) before(q position) bool {
	return p.generation < q.generation || p.generation == q.generation && p.offset < q.offset
}

// A log is what one Envoy process writes: the file with the present name, and those that were renamed to
// end in their generation.
type log struct {
	path string // of the present file
	file *os.File
	at   position // of the next byte to read
	rest []byte   // of a line that is not whole yet
	skip bool     // the rest of a line that is too long
	buf  []byte   // reused
}

const (
	filePrefix = "access-"
	fileSuffix = ".log"
)

// epochsIn lists the epochs whose logs are in a directory.
func epochsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list access logs: %w", err)
	}
	var out []string
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), filePrefix)
		epoch, _, isLog := strings.Cut(name, fileSuffix)
		if ok && isLog && epoch != "" && !slices.Contains(out, epoch) {
			out = append(out, epoch)
		}
	}
	return out, nil
}

// openLog goes on with an epoch's log at a position.
func openLog(dir, epoch string, at position) (*log, error) {
	l := &log{path: filepath.Join(dir, filePrefix+epoch+fileSuffix), at: at}
	old, err := l.generations()
	if err != nil {
		return nil, err
	}
	if len(old) > 0 && at == (position{}) {
		l.at.generation = old[0]
	}
	return l, nil
}

// generations lists the renamed files, oldest first.
func (l *log) generations() ([]int64, error) {
	entries, err := os.ReadDir(filepath.Dir(l.path))
	if err != nil {
		return nil, fmt.Errorf("list generations: %w", err)
	}
	var out []int64
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), filepath.Base(l.path)+".")
		if n, err := strconv.ParseInt(text, 10, 64); ok && err == nil && n >= 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (l *log) renamed(generation int64) string {
	return l.path + "." + strconv.FormatInt(generation, 10)
}

// open opens the file of the present generation: the renamed one if it was renamed. There may be none yet.
func (l *log) open() error {
	if l.file != nil {
		return nil
	}
	f, err := os.Open(l.renamed(l.at.generation))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(l.path)
	}
	if err != nil {
		return err
	}
	l.file = f
	return nil
}

// read calls each with the lines that are whole, and the position of each, up to about chunkBytes of
// them. more says that there is probably more to read.
func (l *log) read(each func(at position, raw []byte, whole bool)) (more bool, err error) {
	if err := l.open(); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("open access log: %w", err)
	}
	if l.buf == nil {
		l.buf = make([]byte, chunkBytes)
	}
	buf := l.buf
	n, err := l.file.ReadAt(buf, l.at.offset+int64(len(l.rest)))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read access log: %w", err)
	}
	if n == 0 {
		return l.follow(each)
	}
	data := buf[:n]
	if len(l.rest) > 0 {
		data = append(l.rest, data...)
		l.rest = nil
	}
	for {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			break
		}
		if !l.skip && i > 0 {
			each(l.at, data[:i], true)
		}
		l.skip = false
		l.at.offset += int64(i) + 1
		data = data[i+1:]
	}
	switch {
	case l.skip:
		l.at.offset += int64(len(data))
	case len(data) > maxLine:
		each(l.at, data[:maxKept], false)
		l.at.offset += int64(len(data))
		l.skip = true
	default:
		l.rest = bytes.Clone(data)
	}
	return n == len(buf), nil
}

// follow goes on to the next generation, if there is one and this one is at its end.
func (l *log) follow(each func(at position, raw []byte, whole bool)) (more bool, err error) {
	if _, err := os.Stat(l.renamed(l.at.generation)); err != nil {
		return false, nil // it was not renamed
	}
	next := false
	for _, path := range []string{l.renamed(l.at.generation + 1), l.path} {
		_, err := os.Stat(path)
		next = next || err == nil
	}
	if !next {
		return false, nil
	}
	// Once the next file is there, Envoy writes to this one no more; what it wrote until then may have
	// come since it was read last.
	if info, err := l.file.Stat(); err != nil || info.Size() > l.at.offset+int64(len(l.rest)) {
		return err == nil, err
	}
	if at, rest := l.torn(); len(rest) > 0 {
		each(at, rest, false) // a full disk cut it
	}
	l.close()
	l.at, l.skip = position{generation: l.at.generation + 1}, false
	return true, nil
}

// torn returns the rest of a line whose end will never be written.
func (l *log) torn() (position, []byte) {
	at, rest := l.at, l.rest
	l.at.offset += int64(len(rest))
	l.rest = nil
	return at, rest
}

// rotate renames the present file. Envoy writes on in it until it is told to open its logs anew.
func (l *log) rotate() error {
	if err := os.Rename(l.path, l.renamed(l.at.generation)); err != nil {
		return fmt.Errorf("rename access log: %w", err)
	}
	return nil
}

// awaits says whether the present file was renamed and Envoy has not made a new one yet.
func (l *log) awaits() bool {
	if _, err := os.Stat(l.path); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err := os.Stat(l.renamed(l.at.generation))
	return err == nil
}

// size returns the size of the present generation's file, and whether it was renamed.
func (l *log) size() (bytes int64, renamed bool) {
	_, err := os.Stat(l.renamed(l.at.generation))
	if l.file == nil {
		return 0, err == nil
	}
	info, statErr := l.file.Stat()
	if statErr != nil {
		return 0, err == nil
	}
	return info.Size(), err == nil
}

// removeBefore deletes the generations that are stored as a whole.
func (l *log) removeBefore(generation int64) error {
	old, err := l.generations()
	if err != nil {
		return err
	}
	for _, g := range old {
		if g < generation {
			err = errors.Join(err, os.Remove(l.renamed(g)))
		}
	}
	return err
}

// removeAll deletes the epoch's files.
func (l *log) removeAll() error {
	l.close()
	old, err := l.generations()
	for _, g := range old {
		err = errors.Join(err, os.Remove(l.renamed(g)))
	}
	if e := os.Remove(l.path); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

func (l *log) close() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
