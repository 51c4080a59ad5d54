package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

// What becomes of a call of the mix. Those of the first group end before there is any answer, for the first provider
// at least; those of the second are of an answer that has begun.
const (
	fateFine     = "is answered"
	fateHuge     = "is answered, with huge counts"
	fateQuiet    = "is answered without usage"
	fateHeld     = "is under way while something is killed"
	fateUnknown  = "names an unknown model"
	fateStranger = "comes with an unknown key"

	fateOnce       = "one 503, then an answer"
	fateFallback   = "503 of the first provider"
	fateLimited    = "429 of the first provider"
	fateReset      = "one reset, then an answer"
	fateSilent     = "silence of the first provider"
	fateEverywhere = "500 of both"
	fateRejected   = "400"

	fateLeft      = "the caller leaves before the headers"
	fateLeftBegun = "the caller leaves at the headers"
	fateLeftFirst = "the caller leaves at the first event"
	fateLeftMid   = "the caller leaves in the middle"
	fateLeftUsage = "the caller leaves after the usage"
	fateCut       = "is cut in the middle"
	fateCutUsage  = "is cut after the usage"
	fateStalled   = "stalls in the middle"
	fateErrs      = "an error inside the answer"
)

// A portion is how many of some thousand calls have a fate.
type portion struct {
	fate string
	n    int
}

var (
	fatesOfAnswers = []portion{
		{fateHuge, 20}, {fateQuiet, 20}, {fateUnknown, 10}, {fateStranger, 3}, {fateOnce, 25}, {fateFallback, 20}, {fateLimited, 15}, {fateReset, 20},
		{fateSilent, 1}, {fateEverywhere, 5}, {fateRejected, 20}, {fateLeft, 25}, {fateLeftMid, 20}, {fateCut, 15}, {fateFine, 781},
	}
	fatesOfStreams = []portion{
		{fateHuge, 20}, {fateQuiet, 20}, {fateHeld, 20}, {fateOnce, 20}, {fateFallback, 20}, {fateLimited, 10}, {fateReset, 20}, {fateSilent, 1}, {fateLeft, 25},
		{fateLeftBegun, 25}, {fateLeftFirst, 30}, {fateLeftMid, 30}, {fateLeftUsage, 30}, {fateCut, 25}, {fateCutUsage, 15}, {fateStalled, 1}, {fateErrs, 15}, {fateFine, 673},
	}
)

// A mixedCall is one call of the mix: what it asks for, and what becomes of it. The seed and its number decide all of
// that, so that caller and provider agree without a word.
type mixedCall struct {
	n          int
	model, api string
	stream     bool
	fate       string
	prompt     string
	used       charges // what an answer to its end is charged
	text       []string
	breakAt    int // how many events of a stream come before what becomes of it; all: nothing does
}

// charges are what is charged, by meter. The meters are disjoint.
type charges struct{ input, cached, write, writeHour, output, reasoning int64 }

func (t charges) byMeter() map[string]int64 {
	return map[string]int64{"input": t.input, "cached_input": t.cached, "cache_write": t.write, "cache_write_1h": t.writeHour, "output": t.output, "reasoning": t.reasoning}
}

func (t charges) prompt() int64 { return t.input + t.cached + t.write + t.writeHour }

// mixedWords make prompts and answers. A longer one is two tokens to the provider.
var mixedWords = strings.Fields("the a of to course because explain matrix and if is each lecture student therefore in that we it number value question answer with for as proof program function time")

func planCall(seed uint64, n int) *mixedCall {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	c := &mixedCall{n: n, model: []string{"m", "m", "w", "w", "free"}[r.IntN(5)]}
	c.api = []string{"chat", "chat", "chat", "responses", "messages", "messages", "embeddings", "completions"}[r.IntN(8)]
	c.stream = c.api != "embeddings" && r.IntN(2) == 0
	fates := fatesOfAnswers
	if c.stream {
		fates = fatesOfStreams
	}
	c.fate = draw(r, fates)
	if c.model == "free" && (c.fate == fateFallback || c.fate == fateLimited || c.fate == fateSilent) {
		c.fate = fateFine // there is no second provider
	}
	count := 20 + r.IntN(300)
	for range count {
		word := mixedWords[r.IntN(len(mixedWords))]
		c.prompt += word + " "
		c.used.input += 1 + int64(len(word)/7)
	}
	c.used.input += 8
	length := 3 + r.IntN(12)
	if r.IntN(3) == 0 {
		length *= 8
	}
	for range length {
		c.text = append(c.text, mixedWords[r.IntN(len(mixedWords))])
	}
	c.charge(r)
	c.breakAt = c.breaks(r)
	return c
}

func draw(r *rand.Rand, portions []portion) string {
	all := 0
	for _, p := range portions {
		all += p.n
	}
	at := r.IntN(all)
	for _, p := range portions {
		if at -= p.n; at < 0 {
			return p.fate
		}
	}
	return fateFine
}

// thinks says whether answers have reasoning that nobody sees before they end, and nobody can estimate.
func (c *mixedCall) thinks() bool { return c.model == "w" }

// needsSecond says that the first provider gives no answer.
func (c *mixedCall) needsSecond() bool { return c.fate == fateFallback || c.fate == fateLimited }

// charge divides the prompt, and counts the answer.
func (c *mixedCall) charge(r *rand.Rand) {
	u := &c.used
	if c.api == "embeddings" {
		return
	}
	u.output = int64(len(c.text))
	part := func() int64 {
		n := r.Int64N(u.input/3 + 1)
		u.input -= n
		return n
	}
	if r.IntN(2) == 0 {
		u.cached = part()
	}
	switch {
	case c.api == "messages" && r.IntN(2) == 0:
		u.write, u.writeHour = part(), part()
	case c.api != "messages" && c.thinks():
		u.reasoning = r.Int64N(500)
	}
	if c.fate == fateHuge { // Envoy writes some of these as 1e+06
		u.input, u.output = 100_000*(1+r.Int64N(15)), 1000*(1+r.Int64N(1000))
	}
}

// breaks returns after how many events the stream takes another turn.
func (c *mixedCall) breaks(r *rand.Rand) int {
	if !c.stream {
		return 0
	}
	opening, pieces := len(c.opening()), len(c.text)
	switch c.fate {
	case fateLeftBegun:
		return 0
	case fateLeftFirst:
		return 1
	case fateHeld, fateLeftMid, fateCut, fateStalled, fateErrs:
		return opening + 1 + r.IntN(pieces)
	case fateLeftUsage, fateCutUsage:
		return opening + pieces + len(c.told())
	}
	return len(c.events())
}

// events is the whole stream. All have one line of data.
func (c *mixedCall) events() (out []string) {
	out = c.opening()
	for i, word := range c.text {
		out = append(out, c.piece(i, word))
	}
	if c.fate != fateQuiet {
		out = append(out, c.told()...)
	}
	return append(out, c.closing()...)
}

// sent says what the provider charges for a stream that ended after so many events, and whether the caller was told.
func (c *mixedCall) sent(events int) (charged charges, told bool) {
	opening := len(c.opening())
	charged = c.used
	if told = c.fate != fateQuiet && events >= opening+len(c.text)+len(c.told()); told || c.fate == fateQuiet {
		return charged, told
	}
	charged.output = int64(min(max(0, events-opening), len(c.text))) // it has thought before it began to say anything
	return charged, false
}

// promptOnly is what is charged where the answer has not begun.
func (c *mixedCall) promptOnly() charges {
	t := c.used
	t.output, t.reasoning = 0, 0
	return t
}

func (c *mixedCall) opening() []string {
	switch c.api {
	case "chat":
		return []string{c.chunk(object{"role": "assistant", "content": ""}, nil)}
	case "responses":
		return []string{named("response.created", object{"type": "response.created", "sequence_number": 0, "response": object{"id": "resp_67c9fdcecf488190bdd9a0409de3a1ec", "object": "response", "status": "in_progress", "usage": nil}})}
	case "messages":
		usage := c.usage()
		usage["output_tokens"] = 1
		return []string{
			named("message_start", object{"type": "message_start", "message": object{"id": "msg_1", "type": "message", "role": "assistant", "content": []object{}, "model": c.model, "usage": usage}}),
			named("content_block_start", object{"type": "content_block_start", "index": 0, "content_block": object{"type": "text", "text": ""}}),
		}
	}
	return nil
}

func (c *mixedCall) piece(i int, word string) string {
	switch c.api {
	case "responses":
		return named("response.output_text.delta", object{"type": "response.output_text.delta", "sequence_number": i + 1, "item_id": "msg_67c9fdcf37fc8190ba82116e33fb28c5", "output_index": 0, "content_index": 0, "delta": " " + word, "logprobs": []object{}})
	case "messages":
		return named("content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": "text_delta", "text": " " + word}})
	case "completions":
		return sse(object{"id": "cmpl-7iA7iJjj8V2zOkCGvWF2hAkWALjbo", "object": "text_completion", "created": 1690759702, "model": c.model, "choices": []object{{"text": " " + word, "index": 0, "logprobs": nil, "finish_reason": nil}}})
	}
	return c.chunk(object{"content": " " + word}, nil)
}

// told is what says the usage.
func (c *mixedCall) told() []string {
	switch c.api {
	case "responses":
		return []string{named("response.completed", object{"type": "response.completed", "response": object{"id": "resp_67c9fdcecf488190bdd9a0409de3a1ec", "object": "response", "status": "completed", "output": strings.Join(c.text, " "), "usage": c.usage()}})}
	case "messages":
		return []string{
			named("content_block_stop", object{"type": "content_block_stop", "index": 0}),
			named("message_delta", object{"type": "message_delta", "delta": object{"stop_reason": "end_turn"}, "usage": object{"output_tokens": c.used.output}}),
		}
	}
	return []string{c.chunk(object{}, c.usage())}
}

func (c *mixedCall) closing() []string {
	switch c.api {
	case "responses":
		return nil
	case "messages":
		return []string{named("message_stop", object{"type": "message_stop"})}
	}
	return []string{"data: [DONE]\n\n"}
}

func (c *mixedCall) chunk(delta, usage object) string {
	chunk := object{"id": "chatcmpl-9lMgfRSWPHcw51s6wxKT1YEO2CKpd", "object": "chat.completion.chunk", "created": 1721075653, "model": c.model, "service_tier": "default", "system_fingerprint": "fp_3aa7262c27", "usage": nil}
	chunk["choices"] = []object{{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": nil}}
	if usage != nil {
		chunk["choices"], chunk["usage"] = []object{}, usage
	}
	return sse(chunk)
}

// usage says what is charged as the API's reference has it.
func (c *mixedCall) usage() object {
	u := c.used
	switch c.api {
	case "messages":
		return object{"input_tokens": u.input, "cache_read_input_tokens": u.cached, "cache_creation_input_tokens": u.write + u.writeHour,
			"cache_creation": object{"ephemeral_5m_input_tokens": u.write, "ephemeral_1h_input_tokens": u.writeHour}, "output_tokens": u.output}
	case "responses":
		return object{"input_tokens": u.prompt(), "input_tokens_details": object{"cached_tokens": u.cached},
			"output_tokens": u.output + u.reasoning, "output_tokens_details": object{"reasoning_tokens": u.reasoning}, "total_tokens": u.prompt() + u.output + u.reasoning}
	case "embeddings":
		return object{"prompt_tokens": u.input, "total_tokens": u.input}
	}
	return usage{input: u.prompt(), cached: u.cached, output: u.output + u.reasoning, reasoning: u.reasoning}.chat()
}

// answer is the whole answer of a call that is not streamed.
func (c *mixedCall) answer() string {
	text := strings.Join(c.text, " ")
	o := object{"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "created": 1741569952, "model": c.model}
	switch c.api {
	case "chat":
		o["object"], o["service_tier"], o["system_fingerprint"] = "chat.completion", "default", "fp_3aa7262c27"
		o["choices"] = []object{{"index": 0, "finish_reason": "stop", "logprobs": nil, "message": object{"role": "assistant", "content": text, "refusal": nil, "annotations": []object{}}}}
	case "completions":
		o["object"] = "text_completion"
		o["choices"] = []object{{"index": 0, "finish_reason": "stop", "logprobs": nil, "text": text}}
	case "responses":
		o["object"], o["status"], o["instructions"], o["parallel_tool_calls"] = "response", "completed", nil, true
		o["output"] = []object{{"type": "message", "id": "msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b", "status": "completed", "role": "assistant", "content": []object{{"type": "output_text", "text": text, "annotations": []object{}}}}}
	case "messages":
		o["type"], o["role"], o["stop_reason"], o["content"] = "message", "assistant", "end_turn", []object{{"type": "text", "text": text}}
	case "embeddings":
		o["data"] = []object{{"object": "embedding", "index": 0, "embedding": []float64{0.25, -0.5, 0.125}}}
	}
	if c.fate != fateQuiet {
		o["usage"] = c.usage()
	}
	return string(encode(o))
}

// request returns the path and body of the call.
func (c *mixedCall) request() (path string, body []byte) {
	o := object{"model": c.model, "call": c.n}
	if c.fate == fateUnknown {
		o["model"] = "of-nobody"
	}
	if c.stream {
		o["stream"] = true
	}
	switch c.api {
	case "chat":
		o["messages"], o["max_completion_tokens"] = []object{{"role": "user", "content": c.prompt}}, 4096
		return "/v1/chat/completions", encode(o)
	case "messages":
		o["messages"], o["max_tokens"] = []object{{"role": "user", "content": c.prompt}}, 4096
		return "/v1/messages", encode(o)
	case "responses":
		o["input"] = c.prompt // without a limit of its own
		return "/v1/responses", encode(o)
	case "completions":
		o["prompt"], o["max_tokens"] = c.prompt, 4096
		return "/v1/completions", encode(o)
	}
	o["input"] = c.prompt
	return "/v1/embeddings", encode(o)
}

func encode(v any) []byte {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return encoded
}

func sse(v any) string { return "data: " + string(encode(v)) + "\n\n" }

func named(name string, v any) string { return fmt.Sprintf("event: %s\n%s", name, sse(v)) }
