package demo

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/fnv"
	"math"
	"net/http"
	"strings"
)

func chat(w http.ResponseWriter, _ *request, a answer) {
	usage := object{"prompt_tokens": a.input, "completion_tokens": len(a.words), "total_tokens": a.input + len(a.words)}
	head := func(kind string) object {
		return object{"id": "chatcmpl-" + a.id, "object": kind, "created": created, "model": a.model}
	}
	if !a.stream {
		out := head("chat.completion")
		out["choices"] = []object{{"index": 0, "finish_reason": "stop", "logprobs": nil, "message": object{"role": "assistant", "content": a.text(), "refusal": nil}}}
		out["usage"] = usage
		writeJSON(w, http.StatusOK, out)
		return
	}
	e := newEvents(w)
	chunk := func(delta object, finish any) {
		out := head("chat.completion.chunk")
		out["choices"] = []object{{"index": 0, "delta": delta, "finish_reason": finish}}
		if a.usage {
			out["usage"] = nil
		}
		e.send("", out)
	}
	chunk(object{"role": "assistant", "content": ""}, nil)
	for _, word := range a.words {
		chunk(object{"content": word}, nil)
	}
	chunk(object{}, "stop")
	e.usage(a, head("chat.completion.chunk"), usage)
	e.done()
}

func completions(w http.ResponseWriter, _ *request, a answer) {
	usage := object{"prompt_tokens": a.input, "completion_tokens": len(a.words), "total_tokens": a.input + len(a.words)}
	head := func() object {
		return object{"id": "cmpl-" + a.id, "object": "text_completion", "created": created, "model": a.model}
	}
	choice := func(text string, finish any) []object {
		return []object{{"index": 0, "text": text, "logprobs": nil, "finish_reason": finish}}
	}
	if !a.stream {
		out := head()
		out["choices"], out["usage"] = choice(a.text(), "stop"), usage
		writeJSON(w, http.StatusOK, out)
		return
	}
	e := newEvents(w)
	for i, word := range a.words {
		out := head()
		out["choices"] = choice(word, nil)
		if i == len(a.words)-1 {
			out["choices"] = choice(word, "stop")
		}
		e.send("", out)
	}
	e.usage(a, head(), usage)
	e.done()
}

// usage sends the last chunk of a chat or completions stream, if the caller asked for it.
func (e events) usage(a answer, head, usage object) {
	if !a.usage {
		return
	}
	head["choices"], head["usage"] = []object{}, usage
	e.send("", head)
}

func responses(w http.ResponseWriter, _ *request, a answer) {
	item := func(status string, content ...object) object {
		if content == nil {
			content = []object{}
		}
		return object{"id": "msg_" + a.id, "type": "message", "role": "assistant", "status": status, "content": content}
	}
	part := func(text string) object {
		return object{"type": "output_text", "text": text, "annotations": []object{}}
	}
	response := func(status string, output ...object) object {
		if output == nil {
			output = []object{}
		}
		return object{"id": "resp_" + a.id, "object": "response", "created_at": created, "status": status, "model": a.model,
			"output": output, "error": nil, "incomplete_details": nil, "instructions": nil, "metadata": object{},
			"parallel_tool_calls": true, "temperature": 1, "tool_choice": "auto", "tools": []object{}, "top_p": 1}
	}
	whole := response("completed", item("completed", part(a.text())))
	whole["usage"] = object{"input_tokens": a.input, "input_tokens_details": object{"cached_tokens": 0},
		"output_tokens": len(a.words), "output_tokens_details": object{"reasoning_tokens": 0}, "total_tokens": a.input + len(a.words)}
	if !a.stream {
		writeJSON(w, http.StatusOK, whole)
		return
	}
	e, number := newEvents(w), 0
	send := func(kind string, v object) {
		v["type"], v["sequence_number"] = kind, number
		number++
		e.send(kind, v)
	}
	at := func(v object) object {
		v["item_id"], v["output_index"], v["content_index"] = "msg_"+a.id, 0, 0
		return v
	}
	send("response.created", object{"response": response("in_progress")})
	send("response.output_item.added", object{"output_index": 0, "item": item("in_progress")})
	send("response.content_part.added", at(object{"part": part("")}))
	for _, word := range a.words {
		send("response.output_text.delta", at(object{"delta": word, "logprobs": []object{}}))
	}
	send("response.output_text.done", at(object{"text": a.text(), "logprobs": []object{}}))
	send("response.content_part.done", at(object{"part": part(a.text())}))
	send("response.output_item.done", object{"output_index": 0, "item": item("completed", part(a.text()))})
	send("response.completed", object{"response": whole})
}

// defaultDimensions is the length of an embedding where the caller asks for none.
const defaultDimensions = 8

// maxDimensions bounds what a caller can ask for.
const maxDimensions = 4096

func embeddings(w http.ResponseWriter, req *request, a answer) {
	var texts []string
	if json.Unmarshal(req.Input, &texts) != nil {
		texts = []string{strings.Join(words(req.Input), " ")}
	}
	n := req.Dimensions
	if n == 0 {
		n = defaultDimensions
	}
	if n < 1 || n > maxDimensions {
		writeError(w, http.StatusBadRequest, "dimensions must be from 1 to 4096")
		return
	}
	data := make([]object, len(texts))
	for i, text := range texts {
		vector := embed(text, n)
		data[i] = object{"object": "embedding", "index": i, "embedding": vector}
		if req.EncodingFormat == "base64" {
			data[i]["embedding"] = encode(vector)
		}
	}
	writeJSON(w, http.StatusOK, object{"object": "list", "model": a.model, "data": data,
		"usage": object{"prompt_tokens": a.input, "total_tokens": a.input}})
}

// embed returns a vector of length 1 that depends on nothing but the text.
func embed(text string, n int) []float32 {
	vector, square := make([]float64, n), 0.0
	for i := range vector {
		h := fnv.New32a()
		h.Write([]byte{byte(i), byte(i >> 8)})
		h.Write([]byte(text))
		vector[i] = float64(h.Sum32())/math.MaxUint32 - 0.5
		square += vector[i] * vector[i]
	}
	out := make([]float32, n)
	for i, v := range vector {
		out[i] = float32(v / math.Sqrt(square))
	}
	return out
}

// encode returns a vector as the official clients ask for it: base64 of little-endian floats.
func encode(vector []float32) string {
	b := make([]byte, 0, 4*len(vector))
	for _, v := range vector {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(b)
}
