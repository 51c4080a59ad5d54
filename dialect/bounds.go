package dialect

import (
	"math"
	"strconv"

	"github.com/ls1intum/edutelligence/logos"
)

// Bounds is the most that a call can use, as far as its request says.
type Bounds struct {
	Input   int64  // tokens at most of what the body holds
	Prompts int64  // that are in it, each of which a context window bounds; at least 1
	Beyond  string // what names input that the body does not hold; empty: nothing does. The context window bounds it
	// Unbounded is what makes the provider do more than to answer this request, which nothing bounds; empty: nothing.
	Unbounded string
	Output    int64 // tokens at most of each answer; 0: not said
	Answers   int64 // that are asked for, at least 1
	Tier      bool  // it asks for a service tier
	Caches    bool  // it may write to the provider's cache
	Audio     bool  // it may hold audio, or ask for it
}

// Bounds returns the most that a call of an API can use. body is what was scanned.
func (r *Request) Bounds(api logos.API, body []byte) Bounds {
	b := Bounds{Prompts: 1, Output: r.OutputLimit(api), Answers: r.AnswersOf(api, body), Tier: r.tier, Audio: mentions(body, "audio")}
	r.input(api, body, &b)
	if api == logos.APICompletions || api == logos.APIEmbeddings {
		b.Prompts = r.prompts(body)
	}
	// Anthropic writes where it is told to; others may by themselves.
	b.Caches = api != logos.APIMessages || mentions(body, "cache_control")
	return b
}

// OutputLimit returns the most tokens that each answer may have, by what the API reads: the greatest of several
// limits, since servers differ in which they obey, and none where one of them is no number, which some take for that.
// 0: none.
func (r *Request) OutputLimit(api logos.API) (most int64) {
	said := false
	for i := range r.limits {
		l := &r.limits[i]
		switch {
		case !l.found || l.count == 0 || !readsLimit(api, limitNames[i]):
			continue
		case l.count == openCount:
			return 0
		}
		most, said = max(most, l.count), said || limitNames[i] != llamaLimit
	}
	if !said {
		return 0
	}
	return most
}

// AnswersOf returns how many answers are asked for. body is what was scanned.
func (r *Request) AnswersOf(api logos.API, body []byte) int64 {
	n := int64(1)
	if api != logos.APIEmbeddings {
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

// llamaLimit is llama.cpp's own name, which overrides all others there, and which others pass over.
const llamaLimit = "n_predict"

// limitNames are the fields that limit the output, those of limits in their order.
var limitNames = [...]string{"max_tokens", "max_completion_tokens", "max_output_tokens", llamaLimit}

// A limit is one of these fields, as [scanner.count] reads it.
type limit struct {
	field
	count int64
}

// readsLimit says whether an API reads a field. Another one limits nothing.
func readsLimit(api logos.API, name string) bool {
	if name == llamaLimit {
		return true
	}
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

// holds says whether every server of a dialect goes by a field. Ollama, among others, passes over OpenAI's newer one.
func holds(api logos.API, d logos.Dialect, name string) bool {
	return name != llamaLimit && (api != logos.APIChat || d != logos.DialectCompatible || name == "max_tokens")
}

// Limit adds to the splices of a body what keeps each answer to at most so many tokens.
func (r *Request) Limit(api logos.API, d logos.Dialect, most int64, splices []Splice) []Splice {
	number, found := strconv.FormatInt(most, 10), false
	for i := range r.limits {
		l := &r.limits[i]
		if !l.found || !readsLimit(api, limitNames[i]) {
			continue
		}
		found = found || holds(api, d, limitNames[i])
		if l.count <= 0 || l.count > most {
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
func ceil(n float64) int64 { return int64(min(math.Ceil(n), mostCount)) }
