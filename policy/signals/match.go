package signals

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/ls1intum/edutelligence/logos"
)

// Limits of matchers. Patterns cost most: some 30 ns a byte each, so that eight take a tenth of a millisecond
// of a long text.
const (
	maxMatchers = 64
	maxKeywords = 256 // of all matchers
	maxPatterns = 8   // of all matchers
	maxLength   = 256 // bytes of a keyword or pattern
	// patternWindow bounds how many bytes of each text patterns look at.
	patternWindow = 512
)

// An Extractor finds signals. It is immutable.
type Extractor struct {
	user, system matchers
}

// matchers look at one kind of text.
type matchers struct {
	names    []string
	words    map[string][]int // keywords of one word, and whose they are
	longest  int              // of them, in bytes
	phrases  []phrase
	patterns []pattern
}

type phrase struct {
	text    []byte // in lower case
	matcher int
}

type pattern struct {
	re      *regexp.Regexp
	matcher int
}

// New compiles matchers. Its errors are of kind Invalid, and name the matcher.
func New(list []logos.TaskMatcher) (*Extractor, error) {
	e := &Extractor{user: matchers{words: make(map[string][]int)}, system: matchers{words: make(map[string][]int)}}
	keywords, patterns := 0, 0
	for _, m := range list {
		keywords, patterns = keywords+len(m.Keywords), patterns+len(m.Patterns)
		to := &e.user
		if m.System {
			to = &e.system
		}
		if err := to.add(m); err != nil {
			return nil, err
		}
	}
	if len(list) > maxMatchers || keywords > maxKeywords || patterns > maxPatterns {
		return nil, logos.Errorf(logos.Invalid, "too_many_matchers", "there are %d matchers with %d keywords and %d patterns: use at most %d, %d and %d", len(list), keywords, patterns, maxMatchers, maxKeywords, maxPatterns)
	}
	return e, nil
}

func (m *matchers) add(t logos.TaskMatcher) error {
	invalid := func(format string, args ...any) error {
		return logos.Errorf(logos.Invalid, "invalid_matcher", "the task matcher %.64q: %s", t.Name, fmt.Sprintf(format, args...))
	}
	if t.Name == "" || len(t.Name) > 64 || len(t.Keywords)+len(t.Patterns) == 0 {
		return invalid("it needs a name of at most 64 bytes, and a keyword or a pattern")
	}
	id := len(m.names)
	m.names = append(m.names, t.Name)
	for _, k := range t.Keywords {
		word := lower(nil, []byte(k))
		switch {
		case len(bytes.TrimSpace(word)) == 0 || len(word) > maxLength:
			return invalid("a keyword has from 1 to %d bytes", maxLength)
		case bytes.IndexFunc(word, func(r rune) bool { return !isWord(r) }) < 0:
			m.words[string(word)] = append(m.words[string(word)], id)
			m.longest = max(m.longest, len(word))
		default:
			m.phrases = append(m.phrases, phrase{word, id})
		}
	}
	for _, p := range t.Patterns {
		if len(p) > maxLength {
			return invalid("a pattern has at most %d bytes", maxLength)
		}
		re, err := regexp.Compile(p)
		if err != nil {
			return invalid("%.100q is no RE2 pattern: %v", p, err)
		}
		m.patterns = append(m.patterns, pattern{re, id})
	}
	return nil
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }

// find appends the names of the matchers that find something, in their order.
func (m *matchers) find(p part, to []string) []string {
	if len(m.names) == 0 {
		return to
	}
	var found uint64 // a bit for each matcher
	var buffer [MaxWindow + 64]byte
	for _, text := range p {
		if len(text) == 0 {
			continue
		}
		folded := lower(buffer[:0], text)
		found |= m.inWords(folded)
		for _, x := range m.phrases {
			if found&(1<<x.matcher) == 0 && hasPhrase(folded, x.text) {
				found |= 1 << x.matcher
			}
		}
		for _, x := range m.patterns {
			if found&(1<<x.matcher) == 0 && x.re.Match(text[:min(len(text), patternWindow)]) {
				found |= 1 << x.matcher
			}
		}
	}
	for i, name := range m.names {
		if found&(1<<i) != 0 && !slices.Contains(to, name) {
			to = append(to, name)
		}
	}
	return to
}

// inWords looks each word up.
func (m *matchers) inWords(text []byte) (found uint64) {
	if len(m.words) == 0 {
		return 0
	}
	start := 0
	end := func(at int) {
		if n := at - start; n > 0 && n <= m.longest {
			for _, i := range m.words[string(text[start:at])] {
				found |= 1 << i
			}
		}
	}
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRune(text[i:])
		}
		if !isWord(r) {
			end(i)
			start = i + size
		}
		i += size
	}
	end(len(text))
	return found
}

// hasPhrase says whether a phrase is there, not within longer words.
func hasPhrase(text, phrase []byte) bool {
	for from := 0; ; {
		at := bytes.Index(text[from:], phrase)
		if at < 0 {
			return false
		}
		at += from
		before, _ := utf8.DecodeLastRune(text[:at])
		after, _ := utf8.DecodeRune(text[at+len(phrase):])
		first, _ := utf8.DecodeRune(phrase)
		last, _ := utf8.DecodeLastRune(phrase)
		if !(isWord(first) && at > 0 && isWord(before)) && !(isWord(last) && at+len(phrase) < len(text) && isWord(after)) {
			return true
		}
		from = at + 1
	}
}

// lower appends a text in lower case.
func lower(to, text []byte) []byte {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			to = append(to, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		to = utf8.AppendRune(to, unicode.ToLower(r))
		i += size
	}
	return to
}
