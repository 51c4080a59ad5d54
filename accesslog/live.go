package accesslog

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// LiveFormat returns what Envoy writes of an attempt every second and at its end, into a file of its own. The
// first byte is that of the answer's body, counted from the start of the attempt.
func LiveFormat() map[string]string {
	return map[string]string{
		"t":  "%ACCESS_LOG_TYPE%",
		"id": "%REQ(X-REQUEST-ID)%",
		"k":  "%UPSTREAM_CLUSTER_RAW%",
		"s":  "%START_TIME(%s.%6f)%",
		"ms": "%DURATION%",
		"fb": "%COMMON_DURATION(DS_RX_BEG:US_RX_BODY_BEG:ms)%",
		"c":  "%RESPONSE_CODE%",
		"f":  "%RESPONSE_FLAGS%",
		"ra": "%RESP(RETRY-AFTER):32%",
		"rm": "%RESP(RETRY-AFTER-MS):32%",
		"rr": "%RESP(X-RATELIMIT-RESET-REQUESTS):32%",
		"rt": "%RESP(X-RATELIMIT-RESET-TOKENS):32%",
		"ar": "%RESP(ANTHROPIC-RATELIMIT-REQUESTS-RESET):32%",
		"at": "%RESP(ANTHROPIC-RATELIMIT-TOKENS-RESET):32%",
	}
}

const (
	livePrefix = "live-"
	liveChunk  = 64 << 10
	// maxLive is the size at which a file is emptied. Nothing is lost that anybody waits for.
	maxLive       = 1 << 20
	discoverEvery = time.Second
	// youngLive is how long a file may be there without the access log of the same Envoy.
	youngLive = time.Minute
)

// A Live reads what Envoy says of attempts under way, and passes it on at once. It keeps no position: what was
// written before it came, or is torn, is passed over, and nothing depends on it but hints. It does not wait
// for any store.
type Live struct {
	dir   string
	tell  func(logos.AttemptSign)
	log   *zap.Logger
	files map[string]*liveFile // by epoch
	told  map[string]bool      // paths of files that can't be opened or emptied, which is logged once
	buf   []byte
}

// A liveFile is what one Envoy process writes.
type liveFile struct {
	path   string
	file   *os.File
	offset int64
	rest   []byte // of a line that is not whole yet
}

// NewLive makes a reader of the files in dir. tell must be quick; it is called by one goroutine.
func NewLive(dir string, tell func(logos.AttemptSign), log *zap.Logger) *Live {
	return &Live{dir: dir, tell: tell, log: log, files: make(map[string]*liveFile), told: make(map[string]bool), buf: make([]byte, liveChunk)}
}

// Run reads until ctx ends.
func (l *Live) Run(ctx context.Context) error {
	defer l.close()
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	begun := time.Now()
	var discovered time.Time
	for ctx.Err() == nil {
		if now := time.Now(); now.Sub(discovered) >= discoverEvery {
			discovered = now
			l.discover(begun, now)
		}
		for _, f := range l.files {
			l.read(f)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

// discover opens files that are new. Those that were written to before this process are read from their end.
// The access log of an Envoy that is gone is deleted when it is stored; the file beside it goes then.
func (l *Live) discover(begun, now time.Time) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		l.log.Error("the run directory can't be listed", zap.Error(err))
		return
	}
	logs, err := epochsIn(l.dir)
	if err != nil {
		l.log.Error("access logs can't be listed", zap.Error(err))
		return
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), livePrefix)
		epoch, isLive := strings.CutSuffix(name, fileSuffix)
		info, err := e.Info()
		if !ok || !isLive || err != nil {
			continue
		}
		switch path := filepath.Join(l.dir, e.Name()); {
		case !slices.Contains(logs, epoch) && now.Sub(info.ModTime()) > youngLive:
			l.remove(epoch, path)
		case l.files[epoch] == nil:
			l.open(epoch, path, info.ModTime().Before(begun))
		case l.files[epoch].replaced():
			l.forget(epoch)
			l.open(epoch, path, false)
		}
	}
}

// replaced says whether somebody has put another file in the place of this one, or emptied it.
func (f *liveFile) replaced() bool {
	open, err := f.file.Stat()
	there, gone := os.Stat(f.path)
	return err == nil && gone == nil && (!os.SameFile(open, there) || there.Size() < f.offset)
}

func (l *Live) open(epoch, path string, old bool) {
	file, err := os.Open(path)
	if err != nil {
		if !l.told[path] {
			l.log.Error("what attempts under way do can't be read, and health does not learn of it", zap.String("epoch", epoch), zap.Error(err))
		}
		l.told[path] = true
		return
	}
	f := &liveFile{path: path, file: file}
	if info, err := file.Stat(); err == nil && old {
		f.offset = info.Size()
	}
	l.files[epoch] = f
}

func (l *Live) forget(epoch string) {
	if f := l.files[epoch]; f != nil {
		f.file.Close()
		delete(l.files, epoch)
	}
}

func (l *Live) remove(epoch, path string) {
	l.forget(epoch)
	err := os.Remove(path)
	if err != nil && !l.told[path] {
		l.log.Warn("a file of an Envoy that is gone could not be removed", zap.String("epoch", epoch), zap.Error(err))
	}
	if l.told[path] = err != nil; err == nil {
		delete(l.told, path)
	}
}

// read passes on what is new, and empties a file that is long.
func (l *Live) read(f *liveFile) {
	for {
		n, _ := f.file.ReadAt(l.buf, f.offset)
		if n == 0 {
			break
		}
		f.offset += int64(n)
		l.take(f, l.buf[:n])
	}
	if f.offset <= maxLive {
		return
	}
	if err := os.Truncate(f.path, 0); err != nil { // Envoy appends, so it goes on at the beginning
		if !l.told[f.path] {
			l.log.Warn("a file of attempts under way could not be emptied, and grows", zap.String("path", f.path), zap.Error(err))
		}
		l.told[f.path] = true
		return
	}
	f.offset, f.rest = 0, nil
}

// take passes on the lines that are whole.
func (l *Live) take(f *liveFile, data []byte) {
	if len(f.rest) > 0 {
		data = append(f.rest, data...)
	}
	for {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			break
		}
		data = rest
		if sign, ok := parseSign(line); ok {
			l.tell(sign)
		}
	}
	f.rest = bytes.Clone(data[:min(len(data), maxKept)])
}

func (l *Live) close() {
	for _, f := range l.files {
		f.file.Close()
	}
}

// A signLine is a line of such a file.
type signLine struct {
	line
	firstByte int64
	resets    dialect.Resets
}

func (l *signLine) set(key string, v []byte) (err error) {
	switch key {
	case "fb":
		l.firstByte, err = countOf(v)
		if string(v) == "null" {
			l.firstByte = -1
		}
	case "ra":
		l.resets.RetryAfter, err = textOf(v)
	case "rm":
		l.resets.RetryAfterMS, err = textOf(v)
	case "rr":
		l.resets.Requests, err = textOf(v)
	case "rt":
		l.resets.Tokens, err = textOf(v)
	case "ar":
		l.resets.AnthropicRequests, err = textOf(v)
	case "at":
		l.resets.AnthropicTokens, err = textOf(v)
	default:
		err = l.line.set(key, v)
	}
	return err
}

// parseSign reads a line; one that can't be read is passed over.
func parseSign(raw []byte) (logos.AttemptSign, bool) {
	l := signLine{firstByte: -1}
	if err := fields(raw, l.set); err != nil || !logos.ValidCallID(l.ID) {
		return logos.AttemptSign{}, false
	}
	s := logos.AttemptSign{
		Call: l.ID, Cluster: l.Cluster, Start: l.started(), Age: millis(l.Duration), FirstByte: -1, Status: int(l.Status), Ended: l.Type == attemptEnd,
		Broken: l.has("UF", "UC", "UR", "LR", "UPE", "UH"), TimedOut: l.has("UT"),
	}
	if l.firstByte >= 0 {
		s.FirstByte = millis(l.firstByte)
	}
	if s.Ended && s.Status >= 400 {
		s.Wait = l.resets.After(s.At())
	}
	return s, !s.Start.IsZero() && !strings.HasPrefix(s.Cluster, "-")
}
