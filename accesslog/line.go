package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// A line is one of Envoy's access-log lines, of any kind.
type line struct {
	Type     string
	ID       logos.CallID
	Status   int64
	Flags    string
	Details  string
	Duration int64 // milliseconds

	// At the end of a call.
	Decision     []byte // as a JSON string, which is decoded only where the intent does not know it
	Route        string
	Method       string
	ContentType  string
	FirstByte    int64 // milliseconds
	RequestBytes int64
	AnswerBytes  int64
	Attempts     int64
	Usage        map[string]string // what was read from the response, by key

	// Of an attempt.
	Cluster       string
	RequestID     string
	APIMRequestID string
	Start         string // seconds since 1970, with microseconds
	Failure       string
}

// parseLine reads a line without its newline. Envoy writes what it does not have as null or not at all,
// and large numbers as 1e+05.
func parseLine(raw []byte) (*line, error) {
	l := &line{}
	if err := fields(raw, l.set); err != nil {
		return nil, fmt.Errorf("read a line: %w", err)
	}
	if !logos.ValidCallID(l.ID) && !l.unrouted() {
		return nil, errors.New("a line has no request id of Envoy's making")
	}
	switch l.Type {
	case callEnd, attemptStart, attemptEnd:
		return l, nil
	}
	return nil, fmt.Errorf("a line is of the unknown type %.40q", l.Type)
}

// set takes one field.
func (l *line) set(key string, v []byte) (err error) {
	switch key {
	case "t":
		l.Type, err = textOf(v)
	case "id":
		var id string
		id, err = textOf(v)
		l.ID = logos.CallID(strings.ToLower(id))
	case "c":
		l.Status, err = countOf(v)
	case "f":
		l.Flags, err = textOf(v)
	case "x":
		l.Details, err = textOf(v)
	case "ms":
		l.Duration, err = countOf(v)
	case "d":
		l.Decision = bytes.Clone(v)
	case "m":
		l.Method, err = textOf(v)
	case "y":
		l.Route, err = textOf(v)
	case "ct":
		l.ContentType, err = textOf(v)
	case "tb":
		l.FirstByte, err = countOf(v)
	case "i":
		l.RequestBytes, err = countOf(v)
	case "o":
		l.AnswerBytes, err = countOf(v)
	case "n":
		l.Attempts, err = countOf(v)
	case "k":
		l.Cluster, err = textOf(v)
	case "r":
		l.RequestID, err = textOf(v)
	case "r2":
		l.APIMRequestID, err = textOf(v)
	case "s":
		l.Start, err = textOf(v)
	case "w":
		l.Failure, err = textOf(v)
	case dialect.Numbers:
		l.setUsage(key, string(v))
	default:
		if limit := textLimits[key]; limit > 0 {
			var text string
			text, err = textOf(v)
			l.setUsage(key, mended(text, limit))
		}
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", key, err)
	}
	return nil
}

func (l *line) setUsage(key, v string) {
	if l.Usage == nil {
		l.Usage = make(map[string]string, 2)
	}
	l.Usage[key] = v
}

// textLimits holds the keys of texts from responses, with the bytes that Envoy keeps of each.
var textLimits = func() map[string]int {
	limits := make(map[string]int)
	for _, f := range append(dialect.StreamFields(), dialect.AnswerFields()...) {
		limits[f.Key] = f.Limit
	}
	return limits
}()

// textOf decodes a JSON string; null is "".
func textOf(v []byte) (string, error) {
	if len(v) >= 2 && v[0] == '"' && bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), nil
	}
	var s *string
	if err := json.Unmarshal(v, &s); err != nil {
		return "", fmt.Errorf("it is no text: %w", err)
	}
	if s == nil {
		return "", nil
	}
	return *s, nil
}

// mended undoes what Envoy makes of a text that it cut at limit within a character: since it is no UTF-8
// then, it takes every byte for a character of Latin-1. The character that was cut is left out.
func mended(text string, limit int) string {
	raw := make([]byte, 0, len(text))
	for _, r := range text {
		if r > 0xff {
			return text
		}
		raw = append(raw, byte(r))
	}
	for n := 1; n < utf8.UTFMax && len(raw) == limit; n++ {
		whole, rest := raw[:len(raw)-n], raw[len(raw)-n:]
		if rest[0] >= utf8.RuneSelf && !utf8.FullRune(rest) && utf8.Valid(whole) {
			return string(whole)
		}
	}
	return text
}

// countOf decodes a number that is no negative; null is 0.
func countOf(v []byte) (int64, error) {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	if string(v) == "null" {
		return 0, nil
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || !(f >= 0 && f <= math.MaxInt64/2) {
		return 0, fmt.Errorf("%.40q is not a count", v)
	}
	return int64(f), nil
}

// unrouted says whether Envoy refused the request before it looked for a route: one without a host, say. It
// has no id of Envoy's making then, and one that it has is the caller's word, which may name another's call.
func (l *line) unrouted() bool {
	return l.Type == callEnd && l.Route == "" && (len(l.Decision) == 0 || string(l.Decision) == "null")
}

// decision decodes the decision; nil where the line has none.
func (l *line) decision() (*logos.Decision, error) {
	if l.Decision == nil {
		return nil, nil
	}
	text, err := textOf(l.Decision)
	if err != nil || text == "" {
		return nil, err
	}
	d := &logos.Decision{}
	if err := json.Unmarshal([]byte(text), d); err != nil {
		return nil, fmt.Errorf("read a decision: %w", err)
	}
	if d.Start <= 0 || d.Start > maxMicros || d.Deadline < 0 || d.Deadline > maxMicros {
		return nil, errors.New("a decision has no usable start or deadline")
	}
	if d.BodyBytes < 0 || d.BodyBytes > maxBytes {
		return nil, errors.New("a decision has no usable size")
	}
	return d, nil
}

// maxBytes is more than any body has.
const maxBytes = 1 << 50

// maxMicros is the year 10000, beyond which a time has no usual text.
const maxMicros = 253402300800 * 1e6

// started returns the time at which an attempt began.
func (l *line) started() time.Time {
	whole, fraction, _ := strings.Cut(l.Start, ".")
	s, err1 := strconv.ParseInt(whole, 10, 64)
	us, err2 := strconv.ParseInt(fraction, 10, 64)
	if err1 != nil || err2 != nil || len(fraction) != 6 || us < 0 || s < 0 || s > maxMicros/1e6 {
		return time.Time{}
	}
	return time.UnixMicro(s*1e6 + us).UTC()
}

// has says whether one of the response flags is set.
func (l *line) has(flags ...string) bool {
	for set := range strings.SplitSeq(l.Flags, ",") {
		for _, f := range flags {
			if set == f {
				return true
			}
		}
	}
	return false
}
