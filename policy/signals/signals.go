// Package signals finds out cheaply, and without a model, what a request is about: the language of its text,
// whether there is source code in it, and which of the operator's keywords and patterns. It looks at a
// bounded part of the text, keeps none of it, and takes some microseconds. ext_proc calls it for calls
// to which a policy applies.
package signals

import (
	"slices"
	"unicode/utf8"
)

// MaxWindow bounds how many bytes of each text are looked at: its beginning and its end.
const MaxWindow = 2048

// languageWindow bounds how many tell the language.
const languageWindow = 512

// CodeTask is the task of requests with source code in them.
const CodeTask = "code"

// A Text is what a request says, decoded. It is read, and neither kept nor changed.
type Text struct {
	System []byte // the system prompt
	User   []byte // what the user said, or the end of a conversation
}

// Signals are what was found. They hold no content.
type Signals struct {
	Language string   // ISO 639-1; empty: not recognised
	Code     bool     // there is source code in what the user said
	Keywords []string // names of the matchers that found something in what the user said
	Tags     []string // names of those that found something in the system prompt
}

// Tasks appends the names under which models declare what they are good at: the keywords, the tags, and
// [CodeTask] for code.
func (s *Signals) Tasks(to []string) []string {
	to = append(append(to, s.Keywords...), s.Tags...)
	if s.Code && !slices.Contains(to, CodeTask) {
		to = append(to, CodeTask)
	}
	return to
}

// A Classifier adds to the signals what it finds in a text by other means, e.g. a learned one. It must not
// keep the text.
type Classifier interface {
	Classify(t Text, found *Signals)
}

// Classify makes an [Extractor] a [Classifier] itself: the one that needs no model.
func (e *Extractor) Classify(t Text, found *Signals) {
	user := window(t.User, MaxWindow)
	found.Language = language(window(t.User, languageWindow))
	found.Code = hasCode(user)
	found.Keywords = e.user.find(user, found.Keywords)
	found.Tags = e.system.find(window(t.System, MaxWindow), found.Tags)
}

// Extract returns the signals of a text.
func (e *Extractor) Extract(t Text) (s Signals) {
	e.Classify(t, &s)
	return s
}

// A part is a text's beginning and end; the second is empty if the first is the whole text.
type part [2][]byte

// window bounds a text, at whole characters.
func window(text []byte, size int) part {
	if len(text) <= size {
		return part{text}
	}
	head, tail := text[:size/2], text[len(text)-size/2:]
	for n := 0; n < utf8.UTFMax && len(tail) > 0 && !utf8.RuneStart(tail[0]); n++ {
		tail = tail[1:]
	}
	for n := 0; n < utf8.UTFMax && len(head) > 0; n++ {
		if r, _ := utf8.DecodeLastRune(head); r != utf8.RuneError {
			break
		}
		head = head[:len(head)-1]
	}
	return part{head, tail}
}
