package dialect

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Content is what policies ask of a request's prompt. Its texts may be parts of the body.
type Content struct {
	Tools, Images, JSONSchema bool

	// Tokens estimates the length of the input: a token for each four bytes of text and of the tools, and some
	// for each image, whose bytes say little. [Request.Bounds] bounds it.
	Tokens int64
	// Longest is the same of the longest of several prompts, of which each has a context of its own; 0: there is one.
	Longest int64

	System, User []byte // the first system prompt and what the user said last: of long ones beginning and end
	Prefix       []byte // how a prompt begins that is long enough for providers to cache; nil: it is shorter
}

const (
	// textWindow bounds how much of the beginning and of the end of a text is decoded.
	textWindow = 2048
	// tokensPerImage is what providers charge for one of middle size.
	tokensPerImage = 800
	// cacheableBytes is the length from which providers cache prompts: 1,024 tokens.
	cacheableBytes = 1024 * bytesPerToken
	prefixBytes    = 2048
)

// A contentKind says what a field of the request holds.
type contentKind uint8

const (
	promptField contentKind = 1 + iota
	systemField
	toolsField
	formatField
)

func contentOf(key string) contentKind {
	switch key {
	case "messages", "input", "prompt":
		return promptField
	case "system", "instructions":
		return systemField
	case "tools", "functions":
		return toolsField
	case "response_format", "text", "output_format", "output_config":
		return formatField
	}
	return 0
}

// contentNames are all fields for which [contentOf] knows a kind.
var contentNames = [...]string{
	"messages", "input", "prompt", "system", "instructions", "tools", "functions", "response_format", "text", "output_format", "output_config",
}

// contentFields are the fields of a request that hold its content. None is there twice, so there is room for all.
type contentFields struct {
	list  [len(contentNames)]contentField
	count int
}

type contentField struct {
	span
	kind contentKind
}

func (f *contentFields) add(kind contentKind, at span) {
	f.list[f.count] = contentField{at, kind}
	f.count++
}

// Content reads what policies ask for. body is what was scanned.
func (r *Request) Content(body []byte) Content {
	w := contentReader{scanner: scanner{body: body}}
	for i := range r.content.count {
		f := &r.content.list[i]
		w.at = f.start
		raw := body[f.start:f.end]
		switch f.kind {
		case promptField:
			w.promptList()
		case systemField:
			w.prompt("system")
		case toolsField:
			w.out.Tools = w.out.Tools || bytes.IndexByte(raw, '{') > 0
			w.bytes += int64(len(raw))
		case formatField:
			w.out.JSONSchema = w.out.JSONSchema || bytes.Contains(raw, []byte(`"json_schema"`))
		}
	}
	w.out.Tokens = tokensOf(w.bytes) + w.images*tokensPerImage
	w.out.Images = w.images > 0
	if w.bytes >= cacheableBytes {
		w.out.Prefix = r.content.prefix(body)
	}
	return w.out
}

// prefix returns how the system prompt begins, or the prompt where there is none of its own.
func (f *contentFields) prefix(body []byte) (prefix []byte) {
	for _, x := range f.list[:f.count] {
		if x.kind == systemField || x.kind == promptField && prefix == nil {
			prefix = body[x.start:min(x.end, x.start+prefixBytes)]
		}
	}
	return prefix
}

// A contentReader reads values that were scanned before, so nothing in them is wrong.
type contentReader struct {
	scanner
	out    Content
	bytes  int64 // of text
	images int64
	text   []byte // read last; still escaped
}

// prompts counts the prompts of a list; numbers are the tokens of one.
func (w *contentReader) prompts() (n int64) {
	list := contentReader{scanner: w.scanner}
	if list.peek() != '[' {
		return 1
	}
	list.each(func() {
		if c := list.peek(); c == '"' || c == '[' || c == '{' {
			n++
		}
		_ = list.value(2)
	})
	return max(1, n)
}

// promptList reads a prompt, or a list of prompts: of texts, or of tokens as numbers.
func (w *contentReader) promptList() {
	if w.peek() != '[' {
		w.prompt("user")
		return
	}
	w.each(func() {
		before, one := w.bytes, w.peek()
		w.prompt("user")
		if one == '"' || one == '[' {
			w.out.Longest = max(w.out.Longest, tokensOf(w.bytes-before))
		}
	})
}

func tokensOf(bytes int64) int64 { return (bytes + bytesPerToken - 1) / bytesPerToken }

// prompt reads a prompt: a text, a message, or a list of these.
func (w *contentReader) prompt(role string) {
	switch w.peek() {
	case '[':
		w.each(func() { w.prompt(role) })
	case '{':
		w.message(role)
	default:
		w.text = nil
		w.part("content")
		w.says(role)
	}
}

// message reads a message, or a part of a prompt.
func (w *contentReader) message(role string) {
	w.at++
	w.text = nil
	_ = w.fields(2, func(key string, _ int) error {
		if key == "role" && w.peek() == '"' {
			raw, escaped, err := w.str()
			role = unquote(raw, escaped)
			return err
		}
		w.part(key)
		return nil
	})
	w.says(role)
}

// says takes the text read last for what a role says.
func (w *contentReader) says(role string) {
	switch {
	case w.text == nil:
	case role == "user":
		w.out.User = decodeText(w.text)
	case (role == "system" || role == "developer") && w.out.System == nil:
		w.out.System = decodeText(w.text)
	}
}

// part reads the value of a field within a prompt.
func (w *contentReader) part(key string) {
	switch w.peek() {
	case '"':
		raw, escaped, _ := w.str()
		w.string(key, raw, escaped)
	case '[':
		w.each(func() { w.part(key) })
	case '{':
		if key == "input" { // of a tool: whatever its names are, the model reads it
			start := w.at
			_ = w.value(2)
			w.bytes += int64(w.at - start)
			return
		}
		if key == "image_url" {
			w.images++
		}
		w.at++
		_ = w.fields(2, func(inner string, _ int) error { w.part(inner); return nil })
	default:
		if c := w.peek(); key == "content" && c >= '0' && c <= '9' {
			w.bytes += bytesPerToken // a token as its number
		}
		_ = w.literal()
	}
}

func (w *contentReader) string(key string, raw []byte, escaped bool) {
	switch key {
	case "type":
		if t := unquote(raw, escaped); t == "image" || t == "input_image" {
			w.images++
		}
		return
	case "image_url", "data", "file_data", "encrypted_content", "url", "media_type", "id", "file_id", "tool_call_id", "signature":
		return // no text, or one that costs next to nothing
	}
	w.bytes += int64(len(raw))
	if key == "content" || key == "text" {
		w.text = raw
	}
}

// each visits the elements of a list that was scanned before.
func (s *scanner) each(visit func()) {
	s.at++
	for {
		s.space()
		if s.take(']') || s.at >= len(s.body) {
			return
		}
		visit()
		s.space()
		s.take(',')
	}
}

// decodeText returns a text without escapes: of a long one its beginning and its end.
func decodeText(raw []byte) []byte {
	if len(raw) > 2*textWindow {
		head, tail := raw[:textWindow], raw[len(raw)-textWindow:]
		out := unescape(make([]byte, 0, 2*textWindow+1), head)
		return unescape(append(out, '\n'), tail)
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw
	}
	return unescape(make([]byte, 0, len(raw)), raw)
}

// unescape appends a text without its escapes; one that is cut off is left out.
func unescape(to, raw []byte) []byte {
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(to, raw...)
		}
		to = append(to, raw[:i]...)
		length := escapeLength(raw[i:])
		if length == 0 {
			return to
		}
		to = appendEscape(to, raw[i:i+length])
		raw = raw[i+length:]
	}
	return to
}

func appendEscape(to, escape []byte) []byte {
	switch escape[1] {
	case 'n':
		return append(to, '\n')
	case 't':
		return append(to, '\t')
	case 'r', 'b', 'f':
		return append(to, ' ')
	case 'u':
		r := rune(0)
		for _, c := range escape[2:6] {
			r = r<<4 | rune(hexValue(c))
		}
		if utf16.IsSurrogate(r) {
			r = utf8.RuneError
		}
		return utf8.AppendRune(to, r)
	}
	return append(to, escape[1])
}

func hexValue(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
