package dialect

import (
	"bytes"
	"math"
	"strconv"

	"github.com/ls1intum/edutelligence/logos"
)

// Bounds is the most that a call can use, as far as its request says.
type Bounds struct {
	Input   int64 // tokens at most
	Output  int64 // tokens at most of each answer; 0: not said
	Answers int64 // that are asked for, at least 1
	Tier    bool  // it asks for a service tier
	Caches  bool  // it may write to the provider's cache
}

// Of what is no text, tokens are bounded by what the dearest of the usual models count.
const (
	leastTextBytes   = 2    // of a token; of English prose and code it is four, of other scripts two or more
	tokensPerPart    = 8    // for roles and separators of each message or part
	mostImageTokens  = 4096 // of one image
	dataBytesAtLeast = 32   // of a token, in files and audio as base64
)

// mostTokens bounds the length of the input.
func (w *contentReader) mostTokens() int64 {
	return (w.bytes+w.format+leastTextBytes-1)/leastTextBytes + w.parts*tokensPerPart + w.images*mostImageTokens + (w.data+dataBytesAtLeast-1)/dataBytesAtLeast
}

// Bounds returns the most that a call of an API can use. body is what was scanned, and content what was read of it.
func (r *Request) Bounds(api logos.API, body []byte, content *Content) Bounds {
	b := Bounds{Input: content.MostTokens, Output: r.OutputLimit(api), Answers: r.AnswersOf(api, body), Tier: r.tier}
	// The name may be written with escapes.
	b.Caches = bytes.Contains(body, []byte("cache_control")) || bytes.Contains(body, []byte(`\u00`))
	return b
}

// OutputLimit returns the most tokens that each answer may have, by what the API reads: the greatest of several
// limits, since servers differ in which they obey. 0: none.
func (r *Request) OutputLimit(api logos.API) (most int64) {
	for i := range r.limits {
		if l := &r.limits[i]; l.found && readsLimit(api, limitNames[i]) {
			most = max(most, l.count)
		}
	}
	return most
}

// AnswersOf returns how many answers are asked for. body is what was scanned.
func (r *Request) AnswersOf(api logos.API, body []byte) int64 {
	n := int64(1)
	if api == logos.APIChat || api == logos.APICompletions {
		n = max(1, min(r.answers, 1<<20))
	}
	if api == logos.APICompletions { // each prompt of a list has answers of its own
		n *= r.prompts(body)
	}
	return n
}

// prompts counts the prompts of a request: the most that a field of it lists.
func (r *Request) prompts(body []byte) (n int64) {
	for i := range r.content.count {
		if f := &r.content.list[i]; f.kind == promptField {
			w := contentReader{scanner: scanner{body: body, at: f.start}}
			n = max(n, w.prompts())
		}
	}
	return max(1, n)
}

// limitNames are the fields that limit the output, those of limits in their order.
var limitNames = [...]string{"max_tokens", "max_completion_tokens", "max_output_tokens"}

// A limit is one of these fields.
type limit struct {
	field
	count int64 // 0: none
}

// readsLimit says whether an API reads a field. Another one limits nothing.
func readsLimit(api logos.API, name string) bool {
	switch api {
	case logos.APIChat:
		return name != "max_output_tokens"
	case logos.APIResponses:
		return name == "max_output_tokens"
	}
	return name == "max_tokens"
}

// newLimit is the field that is added where there is none.
func newLimit(api logos.API, d logos.Dialect) string {
	switch {
	case api == logos.APIResponses:
		return "max_output_tokens"
	case api == logos.APIChat && (d == logos.DialectOpenAI || d == logos.DialectAzure): // whose later models refuse the older name
		return "max_completion_tokens"
	}
	return "max_tokens"
}

// Limit adds to the splices of a body what lowers its output limit to most tokens of each answer.
func (r *Request) Limit(api logos.API, d logos.Dialect, most int64, splices []Splice) []Splice {
	number, found := strconv.FormatInt(most, 10), false
	for i := range r.limits {
		l := &r.limits[i]
		if !l.found || !readsLimit(api, limitNames[i]) {
			continue
		}
		found = true
		if l.count == 0 || l.count > most {
			splices = place(splices, Splice{At: l.start, Cut: l.end - l.start, With: number})
		}
	}
	if found {
		return splices
	}
	with := `"` + newLimit(api, d) + `":` + number
	switch {
	case !r.empty:
		with += ","
	case len(splices) > 0: // they have filled the object
		with = "," + with
	}
	return place(splices, Splice{At: r.object, With: with})
}

// place keeps splices in order of offset, later ones after those at the same place.
func place(list []Splice, s Splice) []Splice {
	i := len(list)
	for i > 0 && list[i-1].At > s.At {
		i--
	}
	out := append(list[:len(list):len(list)], Splice{})
	copy(out[i+1:], out[i:])
	out[i] = s
	return out
}

// ceil takes a number that must not be taken for less than it is.
func ceil(n float64) int64 { return int64(min(math.Ceil(n), 1e15)) }
