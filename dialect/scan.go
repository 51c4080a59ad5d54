// Package dialect knows what callers and providers say: where the model and a few other fields stand in
// a request body, how to change them without touching anything else, which path serves which API, how an
// error looks in the caller's dialect, and which usage fields mean which meter. It decodes nothing that
// it does not need, does no I/O and decides nothing. ext_proc, xds and accesslog call it.
package dialect

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ls1intum/edutelligence/logos"
)

// MaxModelLength bounds a model's name in bytes.
const MaxModelLength = 256

// maxDepth bounds how deep a request body may be nested.
const maxDepth = 200

// A Request is what Logos reads of a model API's request body.
type Request struct {
	Model     string
	Stream    bool
	MaxTokens int64  // the smallest output limit given; 0: none
	User      string // safety_identifier, user or metadata.user_id, in that order

	model         span // of the JSON string, with its quotes
	object        int  // offset after the opening brace
	empty         bool // the object has no field
	streamOptions field
	includeUsage  field
	content       contentFields
	limits        [len(limitNames)]limit
	answers       int64  // the most of n and its other names; 0: not said
	tier          bool   // there is a service tier
	beyond        string // a field that adds input which is not in the body
	unbounded     string // a field that makes providers do more than answer once
}

// A span is a part of the body.
type span struct{ start, end int }

// A field is a value that may be there.
type field struct {
	span
	found bool
	value byte // its first byte
	empty bool // an object without fields
}

// Scan reads a request body. It checks the structure of the whole body, and refuses repeated fields of
// those that it reads: a second "model" would let a caller show Logos one model and the provider another.
// Errors are of kind Invalid, and say where.
func Scan(body []byte) (Request, error) {
	s := scanner{body: body}
	var r Request
	s.space()
	if !s.take('{') {
		return r, s.errorf("the body must be a JSON object")
	}
	r.object = s.at
	var safety, user, nested string
	seen := make(map[string]bool, 8)
	err := s.fields(1, func(key string, at int) error {
		known := true
		var err error
		switch key {
		case "model":
			r.model.start = at
			r.Model, err = s.text("model", MaxModelLength)
			r.model.end = s.at
		case "stream":
			r.Stream, err = s.boolean("stream")
		case "max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict":
			var n int64
			n, err = s.count()
			if key != "n_predict" && n > 0 && n <= mostCount && (r.MaxTokens == 0 || n < r.MaxTokens) {
				r.MaxTokens = n
			}
			r.limits[slices.Index(limitNames[:], key)] = limit{field{span: span{at, s.at}, found: true}, n}
		case "n", "best_of", "n_cmpl":
			var n int64
			if n, err = s.count(); n == openCount {
				r.unbounded = key
			}
			r.answers = max(r.answers, n)
		case "service_tier":
			r.tier = true
			err = s.value(1)
		case "safety_identifier":
			safety, err = s.optionalText(key)
		case "user":
			user, err = s.optionalText(key)
		case "metadata":
			nested, err = s.userID()
		case "stream_options":
			err = s.options(&r)
		default:
			if likeKnown(key) {
				return s.errorf("the field %.40q must be written in lower case", key)
			}
			err = s.value(1)
			kind := contentOf(key)
			if known = kind != 0; known && !seen[key] {
				r.content.add(kind, span{at, s.at})
			}
			r.unusual(key, body[at:s.at])
		}
		if known && seen[key] {
			return s.errorf("the field %q is there twice", key)
		}
		if known {
			seen[key] = true
		}
		return err
	})
	if err != nil {
		return Request{}, err
	}
	s.space()
	if s.at != len(body) {
		return Request{}, s.errorf("there is something after the JSON object")
	}
	r.empty = s.fieldCount == 0
	for _, name := range []string{safety, user, nested} {
		if name != "" {
			r.User = name
			break
		}
	}
	return r, nil
}

// likeKnown says whether a field's name differs from one that is read by case alone. Some providers'
// decoders match names in any case, and would take it for that one. Unicode has small letters of its own for s and k.
func likeKnown(key string) bool {
	plain := strings.IndexFunc(key, func(r rune) bool { return r >= 'A' && r <= 'Z' || r >= utf8.RuneSelf }) < 0
	like := func(name string) bool { return strings.EqualFold(key, name) }
	return !plain && (slices.ContainsFunc(knownNames[:], like) || slices.ContainsFunc(contentNames[:], like))
}

// knownNames are the fields that [Scan] reads itself.
var knownNames = [...]string{
	"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "max_output_tokens", "safety_identifier", "user", "metadata", "n", "best_of", "n_cmpl",
	"n_predict", "service_tier",
}

// A scanner stands at a byte of the body.
type scanner struct {
	body       []byte
	at         int
	fieldCount int // of the outermost object
}

func (s *scanner) errorf(format string, args ...any) error {
	e := logos.Errorf(logos.Invalid, "invalid_json", format, args...)
	e.Message += " (at byte " + strconv.Itoa(s.at) + " of the request body)"
	return e
}

func (s *scanner) space() {
	for s.at < len(s.body) {
		switch s.body[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) peek() byte {
	if s.at < len(s.body) {
		return s.body[s.at]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() == c && s.at < len(s.body) {
		s.at++
		return true
	}
	return false
}

// fields reads the fields of an object whose opening brace has been taken, and calls visit at the start
// of each value, which visit must consume.
func (s *scanner) fields(depth int, visit func(key string, at int) error) error {
	s.space()
	if s.take('}') {
		return nil
	}
	for {
		s.space()
		raw, escaped, err := s.str()
		if err != nil {
			return err
		}
		s.space()
		if !s.take(':') {
			return s.errorf("a colon is missing")
		}
		s.space()
		if depth == 1 {
			s.fieldCount++
		}
		if err := visit(unquote(raw, escaped), s.at); err != nil {
			return err
		}
		s.space()
		if s.take(',') {
			continue
		}
		if s.take('}') {
			return nil
		}
		return s.errorf("a comma or a closing brace is missing")
	}
}

// str takes a string and returns what stands between its quotes. Escapes that are none of JSON's are
// refused, as lenient decoders differ in what they make of them.
func (s *scanner) str() (raw []byte, escaped bool, err error) {
	if !s.take('"') {
		return nil, false, s.errorf("a string is missing")
	}
	start := s.at
	for {
		s.at += plain(s.body[s.at:])
		switch s.peek() {
		case '"':
			s.at++
			return s.body[start : s.at-1], escaped, nil
		case '\\':
			length := escapeLength(s.body[s.at:])
			if length == 0 {
				return nil, false, s.errorf("a string holds a wrong escape")
			}
			escaped = true
			s.at += length
		default:
			if s.at < len(s.body) {
				return nil, false, s.errorf("a string holds a control character")
			}
			return nil, false, s.errorf("a string is not closed")
		}
	}
}

// plain returns how many bytes of text there are before the first quote, backslash or control character.
// Long prompts make it hot, so it looks at many bytes at once.
func plain(text []byte) int {
	i := 0
	for ; i+8 <= len(text); i += 8 {
		if m := marks(text[i:]); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(text); i++ {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// marks sets the highest bit of each of eight bytes that ends plain text. A borrow may mark bytes after
// such a one, so the lowest mark alone is exact. Bytes beyond ASCII have that bit themselves and end nothing.
func marks(text []byte) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	word := binary.LittleEndian.Uint64(text)
	return ((word - ' '*ones) | ((word ^ '"'*ones) - ones) | ((word ^ '\\'*ones) - ones)) &^ word & highs
}

// escapeLength returns the length of the escape that text begins with, or 0 if it is none of JSON's.
func escapeLength(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(text) < 6 {
			return 0
		}
		for _, c := range text[2:6] {
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return 0
			}
		}
		return 6
	}
	return 0
}

// unquote returns the text of a string; one that no decoder accepts becomes a text that equals no name.
func unquote(raw []byte, escaped bool) string {
	if !escaped {
		return string(raw)
	}
	var text string
	quoted := append(append([]byte{'"'}, raw...), '"')
	if json.Unmarshal(quoted, &text) != nil {
		return "\x00"
	}
	return text
}

// value skips one value at a depth.
func (s *scanner) value(depth int) error {
	if depth > maxDepth {
		return s.errorf("the body is nested deeper than %d levels", maxDepth)
	}
	switch c := s.peek(); {
	case c == '"':
		_, _, err := s.str()
		return err
	case c == '{':
		s.at++
		return s.fields(depth+1, func(string, int) error { return s.value(depth + 1) })
	case c == '[':
		s.at++
		return s.elements(depth)
	default:
		return s.literal()
	}
}

func (s *scanner) elements(depth int) error {
	s.space()
	if s.take(']') {
		return nil
	}
	for {
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.space()
		if s.take(',') {
			continue
		}
		if s.take(']') {
			return nil
		}
		return s.errorf("a comma or a closing bracket is missing")
	}
}

// literal skips true, false, null or a number.
func (s *scanner) literal() error {
	start := s.at
	for s.at < len(s.body) {
		c := s.body[s.at]
		if c != '+' && c != '-' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			break
		}
		s.at++
	}
	word := s.body[start:s.at]
	switch string(word) {
	case "true", "false", "null":
		return nil
	}
	if len(word) > 0 && len(word) <= 64 && (word[0] == '-' || word[0] >= '0' && word[0] <= '9') && json.Valid(word) {
		return nil
	}
	s.at = start
	return s.errorf("a value is missing or misspelt")
}

func (s *scanner) null() bool {
	if bytes.HasPrefix(s.body[s.at:], []byte("null")) {
		s.at += len("null")
		return true
	}
	return false
}

// text takes a string that must be there.
func (s *scanner) text(name string, limit int) (string, error) {
	if s.peek() != '"' {
		return "", s.errorf("%q must be a string", name)
	}
	raw, escaped, err := s.str()
	if err != nil {
		return "", err
	}
	text := unquote(raw, escaped)
	if text == "" || len(text) > limit || !utf8.ValidString(text) || bytes.ContainsAny([]byte(text), "\x00\r\n") {
		return "", s.errorf("%q must be a name of 1 to %d bytes", name, limit)
	}
	return text, nil
}

// optionalText takes a string; anything else counts as absent, since providers differ in what they allow.
func (s *scanner) optionalText(string) (string, error) {
	if s.peek() != '"' {
		return "", s.value(1)
	}
	raw, escaped, err := s.str()
	if err != nil {
		return "", err
	}
	return unquote(raw, escaped), nil
}

func (s *scanner) boolean(name string) (bool, error) {
	if s.null() {
		return false, nil
	}
	switch s.peek() {
	case 't', 'f':
		yes := s.peek() == 't'
		return yes, s.literal()
	}
	return false, s.errorf("%q must be true or false", name)
}

// The limits of [scanner.count].
const (
	mostCount = 1_000_000_000_000_000 // what is more is taken for one more
	openCount = -1
)

// count takes a number of tokens or answers: 0 for null, and openCount for what is none, which is the provider's to
// refuse or to make something of.
func (s *scanner) count() (int64, error) {
	if s.null() {
		return 0, nil
	}
	start := s.at
	if err := s.value(1); err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(string(s.body[start:min(s.at, start+65)]), 64)
	switch {
	case n > mostCount:
		return mostCount + 1, nil
	case err != nil || !(n > 0):
		return openCount, nil
	}
	return ceil(n), nil
}

// userID takes Anthropic's metadata object and returns its user_id.
func (s *scanner) userID() (id string, err error) {
	if s.peek() != '{' {
		return "", s.value(1)
	}
	s.at++
	seen := false
	err = s.fields(2, func(key string, _ int) error {
		if key != "user_id" {
			return s.value(2)
		}
		if seen {
			return s.errorf("the field %q is there twice", key)
		}
		seen = true
		id, err = s.optionalText(key)
		return err
	})
	return id, err
}

// options takes stream_options and notes where include_usage stands in it.
func (s *scanner) options(r *Request) error {
	f := &r.streamOptions
	f.found, f.start, f.value = true, s.at, s.peek()
	if f.value != '{' {
		err := s.value(1)
		f.end = s.at
		return err
	}
	s.at++
	f.empty = true
	err := s.fields(2, func(key string, at int) error {
		f.empty = false
		if key != "include_usage" {
			if strings.EqualFold(key, "include_usage") {
				return s.errorf("the field %.40q must be written in lower case", key)
			}
			return s.value(2)
		}
		if r.includeUsage.found {
			return s.errorf("the field %q is there twice", key)
		}
		r.includeUsage.found, r.includeUsage.start, r.includeUsage.value = true, at, s.peek()
		err := s.value(2)
		r.includeUsage.end = s.at
		return err
	})
	f.end = s.at
	return err
}
