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

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// A line is one of Envoy's access-log lines, of any kind. Envoy prints what it does not have as null, and
// large numbers as 1e+05.
type line struct {
	Type     string       `json:"t"`
	ID       logos.CallID `json:"id"`
	Status   number       `json:"c"`
	Flags    string       `json:"f"`
	Details  string       `json:"x"`
	Duration number       `json:"ms"`

	// At the end of a call.
	Decision     string          `json:"d"`
	Usage        json.RawMessage `json:"u"`
	Method       string          `json:"m"`
	ContentType  string          `json:"ct"`
	FirstByte    number          `json:"tb"`
	RequestBytes number          `json:"i"`
	AnswerBytes  number          `json:"o"`
	Attempts     number          `json:"n"`
	text         map[string]any

	// Of an attempt.
	Cluster       string `json:"k"`
	RequestID     string `json:"r"`
	APIMRequestID string `json:"r2"`
	Start         string `json:"s"`
	Failure       string `json:"w"`
}

// A number is a count in a line, however it is printed; null is 0.
type number int64

// UnmarshalJSON reads a JSON number, or null.
func (n *number) UnmarshalJSON(b []byte) error {
	if v, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		*n = number(v)
		return nil
	}
	if string(b) == "null" {
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(v) || math.Abs(v) > math.MaxInt64/2 {
		return fmt.Errorf("%.40q is not a count", b)
	}
	*n = number(v)
	return nil
}

// maxUUID is the length of a call's id.
const uuidLength = 36

// parseLine reads a line without its newline.
func parseLine(raw []byte) (*line, error) {
	l := &line{}
	if err := json.Unmarshal(raw, l); err != nil {
		return nil, fmt.Errorf("read a line: %w", err)
	}
	if len(l.ID) != uuidLength || !isUUID(string(l.ID)) {
		return nil, errors.New("a line has no request id of Envoy's making")
	}
	switch l.Type {
	case attemptStart, attemptEnd:
	case callEnd:
		if bytes.Contains(raw, []byte(`"`+textPrefix)) {
			l.readText(raw)
		}
	default:
		return nil, fmt.Errorf("a line is of the unknown type %.40q", l.Type)
	}
	return l, nil
}

// readText takes the texts of a response, which few lines have.
func (l *line) readText(raw []byte) {
	for _, f := range textFields {
		key := []byte(`"` + textPrefix + f + `":`)
		i := bytes.Index(raw, key)
		if i < 0 || bytes.HasPrefix(raw[i+len(key):], []byte("null")) {
			continue
		}
		var all map[string]json.RawMessage
		if json.Unmarshal(raw, &all) != nil {
			return
		}
		l.text = make(map[string]any)
		for _, f := range textFields {
			var v any
			if json.Unmarshal(all[textPrefix+f], &v) == nil && v != nil {
				l.text[f] = v
			}
		}
		return
	}
}

var textFields = func() (keys []string) {
	for _, f := range dialect.UsageFields() {
		if f.Text {
			keys = append(keys, f.Key)
		}
	}
	return keys
}()

func isUUID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// usage returns what the response reported.
func (l *line) usage() dialect.Usage {
	fields := make(map[string]any)
	if len(l.Usage) > 0 && json.Unmarshal(l.Usage, &fields) != nil {
		fields = make(map[string]any)
	}
	if fields == nil {
		fields = make(map[string]any)
	}
	for k, v := range l.text {
		fields[k] = v
	}
	return dialect.ReadUsage(fields)
}

// decision decodes the decision; nil where the line has none.
func (l *line) decision() (*logos.Decision, error) {
	if l.Decision == "" {
		return nil, nil
	}
	d := &logos.Decision{}
	if err := json.Unmarshal([]byte(l.Decision), d); err != nil {
		return nil, fmt.Errorf("read a decision: %w", err)
	}
	if d.Start <= 0 || d.Start > maxMicros {
		return nil, errors.New("a decision has no usable start")
	}
	return d, nil
}

// maxMicros is the year 10000, beyond which a time has no usual text.
const maxMicros = 253402300800 * 1e6

// started returns the time at which an attempt began.
func (l *line) started() time.Time {
	whole, fraction, _ := strings.Cut(l.Start, ".")
	s, err1 := strconv.ParseInt(whole, 10, 64)
	us, err2 := strconv.ParseInt(fraction, 10, 64)
	if err1 != nil || err2 != nil || s < 0 || s > maxMicros/1e6 {
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
