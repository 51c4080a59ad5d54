package signals

import (
	"math/bits"
	"strings"
	"unicode"
	"unicode/utf8"
)

// languages are told apart by their most frequent words, which no other of them has, or few.
var languages = [...]string{"en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv"}

// A set of languages has a bit for each.
type languageSet uint16

// A word of at most eight bytes, packed into a number.
type word uint64

func (w word) with(c byte) word { return w<<8 | word(c) }

// maxFrequent is the length of the longest frequent word in bytes.
const maxFrequent = 8

// A wordTable holds the languages of words, in a table that is open-addressed and mostly empty: looking up every
// word of a text is most of what telling its language costs.
type wordTable struct {
	words [1 << wordBits]word // 0: free
	sets  [1 << wordBits]languageSet
}

const wordBits = 10

// slot returns where a word stands, or would.
func (t *wordTable) slot(w word) int {
	i := int(w * 0x9e3779b97f4a7c15 >> (64 - wordBits))
	for t.words[i] != w && t.words[i] != 0 {
		i = (i + 1) % len(t.words)
	}
	return i
}

// frequent holds the languages of each frequent word. It is never written.
var frequent = frequentWords([len(languages)]string{
	"the and is are was of to in that it you for with this have not be on what how please can would should from my which does a an",
	"der die das und ist nicht ein eine einen ich du wir sie zu den mit von auf für im dem wie was bitte kann auch sind es werden wird mir über",
	"le la les des et est une un que qui dans pour pas vous je ce sur avec plus il elle nous être comment quel sont du au mon",
	"el la los las de que y es en un una por para con no se su lo como pero más qué cómo está este del al mi puede",
	"il lo la gli di che è e un una per con non si come più sono del della nel questo cosa anche mi ho puoi le i",
	"o a os as de que e é em um uma para com não se por como mais do da no na você está isso meu pode são",
	"de het een en van is dat niet ik je wij zijn op te met voor aan hoe wat maar ook dit kan deze naar er",
	"i w nie to jest się na z że do jak co ale czy dla jego po tego od proszę są przez tylko mój oraz",
	"och det att är som en på för med inte jag du har av till den vi hur vad kan om ett från var min",
})

func frequentWords(lists [len(languages)]string) *wordTable {
	t := new(wordTable)
	for i, list := range lists {
		for text := range strings.FieldsSeq(list) {
			var w word
			for _, c := range []byte(text) {
				w = w.with(c)
			}
			at := t.slot(w)
			t.words[at] = w
			t.sets[at] |= 1 << i
		}
	}
	return t
}

// lowerLetter holds the lower case of each ASCII letter, and 0 for the rest.
var lowerLetter = func() (table [utf8.RuneSelf]byte) {
	for c := byte('a'); c <= 'z'; c++ {
		table[c], table[c-'a'+'A'] = c, c
	}
	return table
}()

// scripts tell a language by themselves. Japanese is told from Chinese by its syllables.
var scripts = [...]struct {
	table    *unicode.RangeTable
	language string
}{
	{unicode.Hiragana, "ja"}, {unicode.Katakana, "ja"}, {unicode.Han, "zh"}, {unicode.Hangul, "ko"}, {unicode.Cyrillic, "ru"},
	{unicode.Arabic, "ar"}, {unicode.Greek, "el"}, {unicode.Hebrew, "he"}, {unicode.Thai, "th"}, {unicode.Devanagari, "hi"},
}

// A tally counts what speaks for which language.
type tally struct {
	letters int
	scripts [len(scripts)]int
	words   [len(languages)]int // thirds of words, so that words of several languages count less
	word    word
	length  int // of the present word, in bytes; above maxFrequent: too long
}

// language returns the language of a text, or nothing where too little speaks for one.
func language(p part) string {
	var t tally
	for _, text := range p {
		for len(text) > 0 {
			if c := text[0]; c < utf8.RuneSelf {
				t.ascii(c)
				text = text[1:]
				continue
			}
			r, size := utf8.DecodeRune(text)
			t.rune(r, text[:size])
			text = text[size:]
		}
		t.end()
	}
	return t.winner()
}

func (t *tally) ascii(c byte) {
	if c = lowerLetter[c]; c == 0 {
		t.end()
		return
	}
	t.letters++
	t.word = t.word.with(c)
	t.length++
}

func (t *tally) rune(r rune, raw []byte) {
	if !unicode.IsLetter(r) {
		t.end()
		return
	}
	t.letters++
	if r < 0x250 { // Latin with marks
		r = unicode.ToLower(r)
		var b [utf8.UTFMax]byte
		for _, c := range b[:utf8.EncodeRune(b[:], r)] {
			t.word = t.word.with(c)
			t.length++
		}
		return
	}
	t.end()
	for i := range scripts {
		if unicode.Is(scripts[i].table, r) {
			t.scripts[i]++
			return
		}
	}
}

// end counts the present word.
func (t *tally) end() {
	if t.length > 0 && t.length <= maxFrequent {
		t.count(frequent.sets[frequent.slot(t.word)])
	}
	t.word, t.length = 0, 0
}

func (t *tally) count(set languageSet) {
	weight := 1
	if set&(set-1) == 0 { // of one language alone
		weight = 3
	}
	for ; set != 0; set &= set - 1 {
		t.words[bits.TrailingZeros16(uint16(set))] += weight
	}
}

func (t *tally) winner() string {
	if t.letters < 4 {
		return ""
	}
	if kana := t.scripts[0] + t.scripts[1]; kana*10 > t.letters {
		return "ja"
	}
	for i, n := range t.scripts {
		if n*2 > t.letters {
			return scripts[i].language
		}
	}
	best, next := -1, 0
	for i, n := range t.words {
		switch {
		case best < 0 || n > t.words[best]:
			if best >= 0 {
				next = t.words[best]
			}
			best = i
		case n > next:
			next = n
		}
	}
	if t.words[best] < 4 || t.words[best] == next {
		return ""
	}
	return languages[best]
}
