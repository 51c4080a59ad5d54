package dialect

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// What bounds the input, where the body does. No tokenizer makes more tokens of a text than it has bytes, and many
// make as many of digits and of rare scripts. What stands around texts in the body is longer than what takes its place
// in a prompt.
const (
	mostImageTokens    = 49_152 // of one image: gpt-4o-mini charges 2,833, and 5,667 for each of up to eight tiles
	mostTemplateTokens = 128    // that templates add of their own, the dates and channels of gpt-oss, say
	mostToolTokens     = 1024   // that providers say to models that have tools, and for each tool of their own making
)

// unusual notes a field that makes a call use more than its body tells.
func (r *Request) unusual(key string, raw []byte) {
	if absent(raw) {
		return
	}
	named, more := false, false
	key = strings.ToLower(strings.ToUpper(key)) // as lenient decoders do, some of whose letters have other small ones
	switch key {
	case "previous_response_id", "conversation", "chat_template", "cached_content", "thread", "assistant_id":
		named = true
	case "prompt": // a stored one
		named = raw[0] == '{'
	case "extra_body":
		named = mentions(raw, "cached_content")
	case "background", "deferred": // the answer comes later and elsewhere, and what it used with it
		more = true
	case "container", "data_sources", "fallbacks", "mcp_servers", "models", "plugins", "prediction", "search_parameters", "speed", "web_search_options":
		more = true // other models, at other prices, or further calls of this one
	case "context_management":
		more = mentions(raw, "compact")
	}
	if named {
		r.beyond = key
	}
	if more {
		r.unbounded = key
	}
}

// mentions says whether a JSON text may hold a name, which escapes could hide.
func mentions(raw []byte, name string) bool {
	return bytes.Contains(raw, []byte(name)) || bytes.Contains(raw, []byte(`\u00`))
}

// absent says whether a value stands for none.
func absent(raw []byte) bool {
	switch string(raw) {
	case "null", "false", `""`, "[]":
		return true
	}
	return false
}

// input bounds the tokens of the input, as far as the body tells, and notes in b what it does not tell.
func (r *Request) input(api logos.API, body []byte, b *Bounds) {
	w := inputReader{scanner: scanner{body: body}, api: api, beyond: r.beyond, unbounded: r.unbounded}
	for _, f := range r.content.list[:r.content.count] {
		w.at = f.start
		switch f.kind {
		case promptField, systemField:
			w.read()
		case toolsField:
			w.tools()
		}
	}
	if api != logos.APIEmbeddings {
		w.extra += mostTemplateTokens
	}
	b.Input = int64(len(body)) - w.media + w.images*mostImageTokens + w.extra
	b.Beyond, b.Unbounded = w.beyond, w.unbounded
}

// An inputReader reads what was scanned before, so nothing in it is wrong, for what is no text. All else counts as
// text, whatever its field.
type inputReader struct {
	scanner
	api               logos.API
	media             int64 // bytes of images
	images            int64
	extra             int64 // tokens
	beyond, unbounded string
}

// read reads a prompt, a message or a part.
func (w *inputReader) read() {
	switch w.peek() {
	case '[':
		w.each(w.read)
	case '{':
		w.object()
	default:
		_ = w.value(2)
	}
}

// A part is what is known of an object within a prompt.
type part struct {
	image, document bool
	typed, id, role bool
	stored          string // a field that names what is elsewhere
	source          bool   // it holds an image's or a document's data, or says where it is
	media           int64
}

func (w *inputReader) object() {
	var p part
	w.at++
	_ = w.fields(2, func(key string, at int) error {
		w.field(&p, key)
		return nil
	})
	switch {
	case p.image && !p.document:
		w.images++
		w.media += p.media
	case p.stored != "":
		w.beyond = cmp.Or(w.beyond, p.stored)
	case p.source:
		w.beyond = cmp.Or(w.beyond, "source")
	case w.api == logos.APIResponses && p.id && !p.typed && !p.role:
		w.beyond = cmp.Or(w.beyond, "item_reference")
	}
}

func (w *inputReader) field(p *part, key string) {
	start := w.at
	switch key {
	case "type":
		p.typed = true
		w.kind(p)
		return
	case "input", "arguments": // of a tool: text for the model, whatever it is made of
		_ = w.value(2)
		return
	case "image_url":
		p.image = true
		p.media += w.imageURL()
		return
	case "source":
		w.source(p)
		return
	case "audio", "audio_url", "file", "file_data", "file_id", "file_url", "image_embeds", "input_audio", "video", "video_url":
		_ = w.value(2)
		if !absent(w.body[start:w.at]) {
			p.stored = key
		}
		return
	case "id":
		p.id = true
	case "role":
		p.role = true
	}
	w.read()
}

// textTypes are those of messages and parts whose texts are all of them. What another type adds is not known.
var textTypes = []string{
	"text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text", "reasoning", "thinking", "redacted_thinking", "message",
	"function", "function_call", "function_call_output", "custom", "custom_tool_call", "custom_tool_call_output", "tool_use", "tool_result", "tool_call",
	"ephemeral", "url_citation", "file_citation", "char_location", "search_result",
}

// kind takes the type of a part.
func (w *inputReader) kind(p *part) {
	if w.peek() != '"' {
		_ = w.value(2)
		return
	}
	raw, escaped, _ := w.str()
	switch name := unquote(raw, escaped); {
	case name == "image" || name == "image_url" || name == "input_image":
		p.image = true
	case name == "document":
		p.document = true
	case !slices.Contains(textTypes, name):
		p.stored = clip(name, 40)
	}
}

// imageURL takes where an image is, or the image, and returns how many bytes of it are no text.
func (w *inputReader) imageURL() (media int64) {
	if w.peek() != '{' {
		return w.imageData()
	}
	w.at++
	_ = w.fields(2, func(key string, _ int) error {
		if key == "url" {
			media += w.imageData()
			return nil
		}
		return w.value(2)
	})
	return media
}

// imageData takes a value, and returns its length if it is an image as a URL of its own data.
func (w *inputReader) imageData() int64 {
	if w.peek() != '"' {
		_ = w.value(2)
		return 0
	}
	raw, _, _ := w.str()
	if bytes.HasPrefix(raw, []byte("data:image")) {
		return int64(len(raw))
	}
	return 0
}

// source takes Anthropic's source of an image or a document, which may be plain text.
func (w *inputReader) source(p *part) {
	if w.peek() != '{' { // of a search result: an address
		_ = w.value(2)
		return
	}
	w.at++
	text, other := false, false
	_ = w.fields(2, func(key string, _ int) error {
		start := w.at
		err := w.value(2)
		switch raw := w.body[start:w.at]; {
		case key == "type" && string(raw) == `"text"`:
			text = true
		case key == "type":
			other = true
		case key == "data":
			p.media += int64(len(raw))
		}
		return err
	})
	p.source = p.source || other || !text
}

// clientTools begin the names of Anthropic's tools that callers carry out.
var clientTools = []string{"bash_", "computer_", "memory_", "text_editor_"}

// tools reads what the model may use. What providers carry out themselves, they do as often as the model likes, and
// hand it the results.
func (w *inputReader) tools() {
	if w.peek() != '[' {
		return
	}
	some := false
	w.each(func() {
		some = true
		w.tool()
	})
	if some {
		w.extra += mostToolTokens
	}
}

func (w *inputReader) tool() {
	if w.peek() != '{' {
		_ = w.value(2)
		return
	}
	w.at++
	kinds, named := []string(nil), false
	_ = w.fields(2, func(key string, _ int) error {
		start := w.at
		err := w.value(2)
		switch key {
		case "type":
			kinds = append(kinds, unquote(bytes.Trim(w.body[start:w.at], `"`), true))
		case "name", "function":
			named = true
		}
		return err
	})
	if len(kinds) == 0 && !named {
		w.unbounded = "tools"
	}
	for _, k := range kinds {
		switch {
		case k == "function" || k == "custom":
		case slices.ContainsFunc(clientTools, func(prefix string) bool { return strings.HasPrefix(k, prefix) }):
			w.extra += mostToolTokens
		default:
			w.unbounded = "tools of type " + clip(k, 40)
		}
	}
}
