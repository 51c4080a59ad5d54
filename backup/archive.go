package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Names of entries.
const (
	dumpName     = "database.dump"
	runPrefix    = "run/"
	manifestName = "manifest.json"
)

// format is the version of the layout of a backup.
const format = 1

// A Manifest says what a backup holds.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"` // version of the one that made it
	Schema  int       `json:"schema"`  // version
	Server  int       `json:"server"`  // major version of its Postgres
	Client  int       `json:"client"`  // major version of the pg_dump that made it
	KeyID   string    `json:"key_id"`  // of the master key that it needs
	Gateway string    `json:"gateway"`
	Began   time.Time `json:"began"` // its state is of a moment after this one
	Ended   time.Time `json:"ended"`
	Entries []Entry   `json:"entries"`
}

// An Entry is one part of a backup.
type Entry struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

const block = 512 // of a tar archive

// An archive is a tar archive under way. Its writer is not archive/tar's, which wants to know the size of an
// entry before it is written, and that of a dump is known only afterwards.
type archive struct {
	file     *os.File
	at       int64 // where the next entry begins
	manifest Manifest
	written  atomic.Int64
}

// add writes one entry.
func (a *archive) add(name string, write func(io.Writer) error) error {
	if _, err := a.file.Seek(a.at+block, io.SeekStart); err != nil {
		return err
	}
	sum := sha256.New()
	counted := &counter{total: &a.written}
	if err := write(io.MultiWriter(a.file, sum, counted)); err != nil {
		return err
	}
	size := counted.n
	// Names are short and plain, so a header is one block.
	var header bytes.Buffer
	err := tar.NewWriter(&header).WriteHeader(&tar.Header{Format: tar.FormatGNU, Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: time.Now()})
	if err != nil {
		return err
	}
	if header.Len() != block {
		return fmt.Errorf("the name %q is too long for a backup", name)
	}
	if _, err := a.file.WriteAt(header.Bytes(), a.at); err != nil {
		return err
	}
	a.at += block + (size+block-1)/block*block
	if name != manifestName {
		a.manifest.Entries = append(a.manifest.Entries, Entry{Name: name, Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))})
	}
	return nil
}

// finish writes the manifest and the end of the archive.
func (a *archive) finish() error {
	a.manifest.Ended = time.Now().UTC()
	encoded, err := json.MarshalIndent(&a.manifest, "", "  ")
	if err != nil {
		return err
	}
	if err := a.add(manifestName, func(w io.Writer) error { _, err := w.Write(append(encoded, '\n')); return err }); err != nil {
		return fmt.Errorf("add the manifest: %w", err)
	}
	return a.file.Truncate(a.at + 2*block) // zeroes
}

// report says now and then how far it is, until stop is called.
func (a *archive) report(log *zap.Logger) (stop func()) {
	return every(5*time.Second, func() { log.Info("backing up", zap.Int64("bytes_so_far", a.written.Load())) })
}

// every calls do from time to time, until stop is called.
func every(interval time.Duration, do func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				do()
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// A counter counts bytes, and adds them to a total that others read.
type counter struct {
	n     int64
	total *atomic.Int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	c.total.Add(int64(len(p)))
	return len(p), nil
}

// each calls do with every entry but the manifest, in order, and returns the manifest. It is an error if
// anything is not as the manifest says, though do was called by then.
func each(r io.Reader, do func(name string, content io.Reader) error) (*Manifest, error) {
	var seen []Entry
	for entries := tar.NewReader(r); ; {
		h, err := entries.Next()
		if err != nil {
			return nil, fmt.Errorf("it is not a whole backup: %w", noEOF(err))
		}
		if h.Name == manifestName {
			var m Manifest
			if err := json.NewDecoder(io.LimitReader(entries, 64<<20)).Decode(&m); err != nil {
				return nil, fmt.Errorf("its manifest can't be read: %w", noEOF(err))
			}
			return &m, m.check(seen)
		}
		sum := sha256.New()
		content := io.TeeReader(entries, sum)
		if err := do(h.Name, content); err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return nil, fmt.Errorf("it is not a whole backup: %s: %w", h.Name, noEOF(err))
		}
		seen = append(seen, Entry{Name: h.Name, Bytes: h.Size, SHA256: hex.EncodeToString(sum.Sum(nil))})
	}
}

// noEOF keeps an end that comes too early from being taken for a good one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// check says whether these entries are those of the manifest.
func (m *Manifest) check(seen []Entry) error {
	if m.Format != format {
		return fmt.Errorf("it has format %d, and this program knows %d: use the version that made it, %s, or a later one", m.Format, format, m.Program)
	}
	if len(seen) != len(m.Entries) {
		return fmt.Errorf("it has %d entries, and its manifest names %d", len(seen), len(m.Entries))
	}
	for i, e := range m.Entries {
		if seen[i] != e {
			return fmt.Errorf("%s is damaged: its digest is not the one that the manifest names", e.Name)
		}
	}
	return nil
}
