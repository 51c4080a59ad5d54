package dialect

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"github.com/ls1intum/edutelligence/logos"
)

// A UsageField is one value that Envoy reads from a response. Each costs for every answer, and those of
// streams for every event, so they are few.
type UsageField struct {
	Key  string   // in metadata and log
	Path []string // of the value in the JSON
	// Limit is how many bytes of a text are kept, since providers decide how long it is. 0: the value is a
	// number.
	Limit int
}

// Sources of both lists are in testdata/README.md.
var (
	// In events Envoy writes an object as its JSON. The last value wins.
	streamFields = []UsageField{
		{"uu", []string{"usage"}, 2048},
		{"ru", []string{"response", "usage"}, 2048}, // Responses
		{"mu", []string{"message", "usage"}, 2048},  // Messages, as a stream begins
		{"st", []string{"service_tier"}, 64},
		{"rt", []string{"response", "service_tier"}, 64},
		{"rs", []string{"response", "status"}, 64},
		{"ee", []string{"error"}, 2048},
		{"re", []string{"response", "error"}, 2048},
	}
	// In an answer as a whole it reads no objects. Numbers are kept under their own last name, where that tells
	// them apart. Such an answer is read once, so that a rule more costs next to nothing.
	answerFields = []UsageField{
		{"prompt_tokens", []string{"usage", "prompt_tokens"}, 0},
		{"completion_tokens", []string{"usage", "completion_tokens"}, 0},
		{"input_tokens", []string{"usage", "input_tokens"}, 0},
		{"output_tokens", []string{"usage", "output_tokens"}, 0},
		{"cached_tokens", []string{"usage", "prompt_tokens_details", "cached_tokens"}, 0},
		{"cached_tokens", []string{"usage", "input_tokens_details", "cached_tokens"}, 0},
		{"reasoning_tokens", []string{"usage", "completion_tokens_details", "reasoning_tokens"}, 0},
		{"reasoning_tokens", []string{"usage", "output_tokens_details", "reasoning_tokens"}, 0},
		{"cache_read_input_tokens", []string{"usage", "cache_read_input_tokens"}, 0},
		{"cache_creation_input_tokens", []string{"usage", "cache_creation_input_tokens"}, 0},
		{"ephemeral_1h_input_tokens", []string{"usage", "cache_creation", "ephemeral_1h_input_tokens"}, 0},
		{"cache_write_tokens", []string{"usage", "prompt_tokens_details", "cache_write_tokens"}, 0},
		{"cache_write_tokens", []string{"usage", "input_tokens_details", "cache_write_tokens"}, 0},
		{"reasoning_tokens", []string{"usage", "output_tokens_details", "thinking_tokens"}, 0},
		{"prompt_audio_tokens", []string{"usage", "prompt_tokens_details", "audio_tokens"}, 0},
		{"completion_audio_tokens", []string{"usage", "completion_tokens_details", "audio_tokens"}, 0},
		{"total_tokens", []string{"usage", "total_tokens"}, 0},
		{"web_search_requests", []string{"usage", "server_tool_use", "web_search_requests"}, 0},
		{"st", []string{"service_tier"}, 64},
		{"ut", []string{"usage", "service_tier"}, 64},
		{"ec", []string{"error", "code"}, 128},
		{"et", []string{"error", "type"}, 128},
		{"em", []string{"error", "message"}, 512},
	}
)

// StreamFields returns what Envoy shall read from each event of a stream of unknown kind.
func StreamFields() []UsageField { return streamFields }

// A StreamKind is a kind of stream that the path of the call tells, and the fields that its events may have.
type StreamKind struct {
	Name   string
	Paths  []string
	Fields []UsageField
}

// StreamKinds returns the kinds that are known. Looking for a field in vain costs in every event, so a path
// that most calls have is worth rules of its own.
func StreamKinds() []StreamKind {
	return []StreamKind{
		{"chat", []string{"/v1/chat/completions", "/v1/completions"}, fieldsOf("uu", "st", "ee")},
		{"messages", []string{"/v1/messages"}, fieldsOf("uu", "mu", "ee")},
		{"responses", []string{"/v1/responses"}, fieldsOf("ru", "rt", "rs", "re", "ee")},
	}
}

// fieldsOf picks fields of streams by their keys.
func fieldsOf(keys ...string) (out []UsageField) {
	for _, f := range streamFields {
		if slices.Contains(keys, f.Key) {
			out = append(out, f)
		}
	}
	return out
}

// AnswerFields returns what Envoy shall read from an answer in JSON.
func AnswerFields() []UsageField { return answerFields }

// Numbers is the key under which [ReadUsage] takes the numbers of an answer, as one JSON object.
const Numbers = "u"

// Usage is what a provider reported about one attempt.
type Usage struct {
	Meters   []logos.MeterReading // disjoint; none if Reported is false
	Reported bool
	// Partial says that the output was counted as the answer began, and not again as it ended.
	Partial     bool
	ServiceTier string
	Error       logos.CallError
}

// A report is a usage object of any dialect. What is missing or no count stays -1.
type report struct {
	PromptTokens     count `json:"prompt_tokens"`
	CompletionTokens count `json:"completion_tokens"`
	TotalTokens      count `json:"total_tokens"`
	PromptDetails    struct {
		Cached count `json:"cached_tokens"`
		Write  count `json:"cache_write_tokens"`
		Audio  count `json:"audio_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning count `json:"reasoning_tokens"`
		Audio     count `json:"audio_tokens"`
	} `json:"completion_tokens_details"`
	InputTokens  count `json:"input_tokens"`
	OutputTokens count `json:"output_tokens"`
	InputDetails struct {
		Cached count `json:"cached_tokens"`
		Write  count `json:"cache_write_tokens"`
	} `json:"input_tokens_details"`
	OutputDetails struct {
		Reasoning count `json:"reasoning_tokens"`
		Thinking  count `json:"thinking_tokens"`
	} `json:"output_tokens_details"`
	Cached      count `json:"cached_tokens"`    // of an answer read as a whole
	Reasoning   count `json:"reasoning_tokens"` // likewise
	CacheRead   count `json:"cache_read_input_tokens"`
	CacheWrite  count `json:"cache_creation_input_tokens"`
	CacheWrites struct {
		Hour count `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	Tools struct {
		Searches count `json:"web_search_requests"`
	} `json:"server_tool_use"`
	Searches    count  `json:"web_search_requests"`       // of an answer read as a whole
	WriteWithin count  `json:"cache_write_tokens"`        // of an answer read as a whole
	WriteHour   count  `json:"ephemeral_1h_input_tokens"` // likewise
	AudioIn     count  `json:"prompt_audio_tokens"`       // likewise
	AudioOut    count  `json:"completion_audio_tokens"`   // likewise
	ServiceTier string `json:"service_tier"`
}

// A count is a number of tokens plus one, so that zero means that there is none.
type count int64

// UnmarshalJSON reads a number; anything else counts as missing.
func (c *count) UnmarshalJSON(b []byte) error {
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		if n >= 0 && n <= math.MaxInt64/4 {
			*c = count(n) + 1
		}
		return nil
	}
	if n, err := strconv.ParseFloat(string(b), 64); err == nil && n >= 0 && n <= math.MaxInt64/4 {
		*c = count(n) + 1
	}
	return nil
}

// first returns the first count that is there.
func first(counts ...count) (n int64, ok bool) {
	for _, c := range counts {
		if c > 0 {
			return int64(c) - 1, true
		}
	}
	return 0, false
}

// ReadUsage maps what Envoy took from a response, by key, onto meters.
func ReadUsage(fields map[string]string) Usage {
	var u Usage
	u.Error = readError(fields["ee"], fields["re"])
	if u.Error == (logos.CallError{}) {
		u.Error = logos.CallError{Code: fields["ec"], Type: fields["et"], Message: clip(fields["em"], 512)}
	}
	if fields["rs"] == "failed" && u.Error == (logos.CallError{}) {
		u.Error.Code = "response_failed"
	}
	// Read one over the other, so that later values replace earlier ones.
	var begun, r report
	decode(fields["mu"], &begun)
	decode(fields[Numbers], &r)
	decode(fields["uu"], &r)
	decode(fields["ru"], &r)
	for _, tier := range []string{fields["rt"], fields["st"], fields["ut"], r.ServiceTier, begun.ServiceTier} {
		if tier != "" && u.ServiceTier == "" {
			u.ServiceTier = tier
		}
	}
	input, hasInput := first(r.PromptTokens, r.InputTokens, begun.InputTokens)
	output, hasOutput := first(r.CompletionTokens, r.OutputTokens)
	if !hasOutput {
		output, hasOutput = first(begun.OutputTokens)
		u.Partial = hasOutput
	}
	if u.Reported = hasInput || hasOutput; !u.Reported {
		return u
	}
	searches, _ := first(r.Tools.Searches, r.Searches, begun.Tools.Searches)
	u.Meters = slices.Concat(readInput(&r, &begun, input), readOutput(&r, input, output), used(logos.MeterReading{Meter: logos.MeterWebSearch, Quantity: searches}))
	return u
}

// readInput divides the prompt. OpenAI counts what was read from a cache, written to it, and audio within the
// prompt's; Anthropic counts reads and writes beside the input, and those for an hour within the writes. What is
// more than the whole it is a part of is cut to it, so that the meters always add up to the provider's own
// totals. Audio that came from a cache is not told apart: it counts as cached.
func readInput(r, begun *report, input int64) []logos.MeterReading {
	read, hasRead := first(r.CacheRead, begun.CacheRead)
	write, hasWrite := first(r.CacheWrite, begun.CacheWrite)
	hour, _ := first(r.CacheWrites.Hour, r.WriteHour, begun.CacheWrites.Hour)
	cached, hasCached := first(r.PromptDetails.Cached, r.InputDetails.Cached, r.Cached)
	if (hasRead || hasWrite) && !hasCached {
		cached = read
	} else {
		cached = min(cached, input)
		input -= cached
		write, _ = first(r.PromptDetails.Write, r.InputDetails.Write, r.WriteWithin)
		write, hour = min(write, input), 0
		input -= write
	}
	hour = min(hour, write)
	audio, _ := first(r.PromptDetails.Audio, r.AudioIn)
	audio = min(audio, input)
	return append([]logos.MeterReading{{Meter: logos.MeterInput, Quantity: input - audio}}, used(
		logos.MeterReading{Meter: logos.MeterCachedInput, Quantity: cached},
		logos.MeterReading{Meter: logos.MeterCacheWrite, Quantity: write - hour},
		logos.MeterReading{Meter: logos.MeterCacheWrite1h, Quantity: hour},
		logos.MeterReading{Meter: logos.MeterAudioInput, Quantity: audio},
	)...)
}

// readOutput divides the answer. OpenAI and Anthropic count reasoning, and OpenAI audio, within the whole answer.
// Gemini's compatible API and xAI's leave thoughts out of the completion's, and count them in the total alone: so
// what the total has more is reasoning.
func readOutput(r *report, input, output int64) []logos.MeterReading {
	reasoning, _ := first(r.CompletionDetails.Reasoning, r.OutputDetails.Reasoning, r.OutputDetails.Thinking, r.Reasoning)
	total, _ := first(r.TotalTokens)
	if beside := total - input - output; beside > 0 && r.PromptTokens > 0 {
		reasoning = beside
	} else {
		reasoning = min(reasoning, output)
		output -= reasoning
	}
	audio, _ := first(r.CompletionDetails.Audio, r.AudioOut)
	audio = min(audio, output)
	return append(used(
		logos.MeterReading{Meter: logos.MeterReasoning, Quantity: reasoning},
		logos.MeterReading{Meter: logos.MeterAudioOutput, Quantity: audio},
	), logos.MeterReading{Meter: logos.MeterOutput, Quantity: output - audio})
}

// used leaves out what was not used.
func used(readings ...logos.MeterReading) []logos.MeterReading {
	return slices.DeleteFunc(readings, func(m logos.MeterReading) bool { return m.Quantity == 0 })
}

// decode reads what it can: a field of a wrong type is passed over, and so is an object that was cut.
func decode(text string, r *report) {
	if text != "" {
		_ = json.Unmarshal([]byte(text), r)
	}
}

// readError reads the first error there is: an object, which may have been cut in its message, else a text.
func readError(texts ...string) logos.CallError {
	for _, text := range texts {
		if text == "" || text == "null" {
			continue
		}
		var e struct {
			Code    any    `json:"code"`
			Type    string `json:"type"`
			Message string `json:"message"`
		}
		if json.Unmarshal([]byte(text), &e) != nil && json.Unmarshal([]byte(text+`"}`), &e) != nil && e.Message == "" {
			return logos.CallError{Message: clip(text, 512)}
		}
		code := ""
		switch v := e.Code.(type) { // some providers' codes are numbers
		case string:
			code = v
		case float64:
			code = strconv.FormatFloat(v, 'f', -1, 64)
		}
		return logos.CallError{Code: clip(code, 128), Type: clip(e.Type, 128), Message: clip(e.Message, 512)}
	}
	return logos.CallError{}
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
	requestBytes, answerBytes = max(0, requestBytes), max(0, answerBytes)
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
