package dialect

import (
	"encoding/json"
	"math"

	"github.com/ls1intum/edutelligence/logos"
)

// A UsageField is one value that Envoy reads from a response, streamed or not, into the metadata
// namespace logos.usage. In a stream the last value wins.
type UsageField struct {
	Key  string   // in the metadata, short because every call carries it
	Path []string // of the value in the JSON
	Text bool     // a string; else a number
}

// usageFields serves all dialects at once. Sources, all as of November 2026: OpenAI's API reference (chat
// completion object, response object), Anthropic's messages and streaming references; llama.cpp's and
// vLLM's servers use OpenAI's and Anthropic's names.
var usageFields = []UsageField{
	{Key: "pt", Path: []string{"usage", "prompt_tokens"}},
	{Key: "ct", Path: []string{"usage", "completion_tokens"}},
	{Key: "pc", Path: []string{"usage", "prompt_tokens_details", "cached_tokens"}},
	{Key: "cr", Path: []string{"usage", "completion_tokens_details", "reasoning_tokens"}},
	{Key: "it", Path: []string{"usage", "input_tokens"}},
	{Key: "ot", Path: []string{"usage", "output_tokens"}},
	{Key: "ic", Path: []string{"usage", "input_tokens_details", "cached_tokens"}},
	{Key: "or", Path: []string{"usage", "output_tokens_details", "reasoning_tokens"}},
	{Key: "ar", Path: []string{"usage", "cache_read_input_tokens"}},
	{Key: "aw", Path: []string{"usage", "cache_creation_input_tokens"}},
	{Key: "rit", Path: []string{"response", "usage", "input_tokens"}},
	{Key: "rot", Path: []string{"response", "usage", "output_tokens"}},
	{Key: "ric", Path: []string{"response", "usage", "input_tokens_details", "cached_tokens"}},
	{Key: "ror", Path: []string{"response", "usage", "output_tokens_details", "reasoning_tokens"}},
	{Key: "mit", Path: []string{"message", "usage", "input_tokens"}},
	{Key: "mot", Path: []string{"message", "usage", "output_tokens"}},
	{Key: "mar", Path: []string{"message", "usage", "cache_read_input_tokens"}},
	{Key: "maw", Path: []string{"message", "usage", "cache_creation_input_tokens"}},
	{Key: "tier", Path: []string{"service_tier"}, Text: true},
	{Key: "rtier", Path: []string{"response", "service_tier"}, Text: true},
	{Key: "rs", Path: []string{"response", "status"}, Text: true},
	{Key: "ec", Path: []string{"error", "code"}, Text: true},
	{Key: "et", Path: []string{"error", "type"}, Text: true},
	{Key: "em", Path: []string{"error", "message"}, Text: true},
	{Key: "rec", Path: []string{"response", "error", "code"}, Text: true},
	{Key: "rem", Path: []string{"response", "error", "message"}, Text: true},
}

// UsageFields returns what Envoy shall read from responses.
func UsageFields() []UsageField { return usageFields }

// Usage is what a provider reported about one attempt.
type Usage struct {
	Meters   []logos.MeterReading // disjoint; none if Reported is false
	Reported bool
	// Partial says that the output was counted as the answer began, and not again as it ended.
	Partial     bool
	ServiceTier string
	Error       logos.CallError
}

// reported is the content of the metadata namespace logos.usage.
type reported map[string]any

func (r reported) count(keys ...string) (n int64, ok bool) {
	for _, k := range keys {
		v, is := r[k].(float64)
		if is && v >= 0 && v <= math.MaxInt64/4 {
			return int64(v), true
		}
	}
	return 0, false
}

func (r reported) text(keys ...string) string {
	for _, k := range keys {
		switch v := r[k].(type) {
		case string:
			if v != "" {
				return v
			}
		case float64: // some providers' error codes are numbers
			text, _ := json.Marshal(v)
			return string(text)
		}
	}
	return ""
}

// ReadUsage maps the metadata that Envoy took from a response, as JSON decodes it, onto meters.
//
// OpenAI counts cached tokens within the prompt's and reasoning within the completion's; Anthropic counts
// cache reads and writes beside the input. What is more than the whole it is a part of is cut to it, so
// that the meters always add up to the provider's own totals.
func ReadUsage(fields map[string]any) Usage {
	r := reported(fields)
	u := Usage{
		ServiceTier: r.text("rtier", "tier"),
		Error:       logos.CallError{Code: r.text("ec", "rec"), Type: r.text("et"), Message: clip(r.text("em", "rem"), 512)},
	}
	if r.text("rs") == "failed" && u.Error == (logos.CallError{}) {
		u.Error.Code = "response_failed"
	}
	read, hasRead := r.count("ar", "mar")
	write, hasWrite := r.count("aw", "maw")
	input, hasInput := r.count("pt", "rit", "it", "mit")
	output, hasOutput := r.count("ct", "rot", "ot")
	if !hasOutput {
		output, hasOutput = r.count("mot")
		u.Partial = hasOutput
	}
	if !hasInput && !hasOutput {
		return u
	}
	u.Reported = true
	cached, hasCached := r.count("pc", "ric", "ic")
	reasoning, _ := r.count("cr", "ror", "or")
	if (hasRead || hasWrite) && !hasCached { // Anthropic: beside the input
		cached = read
	} else {
		cached, write = min(cached, input), 0
		input -= cached
	}
	reasoning = min(reasoning, output)
	u.Meters = append(u.Meters, logos.MeterReading{Meter: logos.MeterInput, Quantity: input})
	for _, m := range []logos.MeterReading{
		{Meter: logos.MeterCachedInput, Quantity: cached},
		{Meter: logos.MeterCacheWrite, Quantity: write},
		{Meter: logos.MeterReasoning, Quantity: reasoning},
	} {
		if m.Quantity > 0 {
			u.Meters = append(u.Meters, m)
		}
	}
	u.Meters = append(u.Meters, logos.MeterReading{Meter: logos.MeterOutput, Quantity: output - reasoning})
	return u
}

// Rules of thumb for answers whose provider reported nothing. English text has about four bytes a token;
// an event of a stream carries about one token in some 200 bytes of JSON. They are estimates, and every
// reading made with them is marked so.
const (
	bytesPerToken      = 4
	bytesPerEvent      = 200
	bytesOfAnswerFrame = 300 // what a JSON answer holds beside its text
)

// Estimate guesses the meters of an attempt from the bytes of its request and of its answer.
func Estimate(api logos.API, stream bool, requestBytes, answerBytes int64) []logos.MeterReading {
	input := (requestBytes + bytesPerToken - 1) / bytesPerToken
	output := max(0, answerBytes-bytesOfAnswerFrame) / bytesPerToken
	if stream {
		output = (answerBytes + bytesPerEvent - 1) / bytesPerEvent
	}
	if api == logos.APIEmbeddings {
		output = 0
	}
	return []logos.MeterReading{
		{Meter: logos.MeterInput, Quantity: input, Estimated: true},
		{Meter: logos.MeterOutput, Quantity: output, Estimated: true},
	}
}

// clip cuts a text to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
