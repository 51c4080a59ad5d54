// Package demo is the demo provider of `logos up`: a small HTTP server that speaks the model APIs of
// OpenAI and Anthropic well enough for a first call through the gateway, and says in every answer that
// it is no model. Its answers and token counts are deterministic: a token is a word. It is not for
// measuring and knows no keys.
package demo

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"strings"
)

// Model is the name of the one model that the demo provider has.
const Model = "demo"

// maxBody bounds a request body in bytes.
const maxBody = 32 << 20

// maxEcho is how many words of a prompt are repeated in the answer.
const maxEcho = 12

// NewHandler returns the demo provider.
func NewHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", handle(chat))
	mux.HandleFunc("POST /v1/completions", handle(completions))
	mux.HandleFunc("POST /v1/responses", handle(responses))
	mux.HandleFunc("POST /v1/messages", handle(messages))
	mux.HandleFunc("POST /v1/embeddings", handle(embeddings))
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, object{"object": "list", "data": []object{{"id": Model, "object": "model", "created": created, "owned_by": "logos-demo"}}})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("the demo provider does not know %s %s", r.Method, r.URL.Path))
	})
	return mux
}

// created is the time in every answer: all are the same, so that they can be compared.
const created = 1767225600

type object = map[string]any

// A request holds what the demo reads of the request of any API.
type request struct {
	Model         string          `json:"model"`
	Stream        bool            `json:"stream"`
	Messages      json.RawMessage `json:"messages"`
	Prompt        json.RawMessage `json:"prompt"`
	Input         json.RawMessage `json:"input"`
	System        json.RawMessage `json:"system"`
	Instructions  string          `json:"instructions"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	EncodingFormat string `json:"encoding_format"`
	Dimensions     int    `json:"dimensions"`
}

// An answer is what the demo says to a request.
type answer struct {
	id     string
	model  string
	words  []string // with the space before each but the first
	input  int      // tokens
	stream bool
	usage  bool // usage in the stream is wanted
}

func (a answer) text() string { return strings.Join(a.words, "") }

func handle(serve func(http.ResponseWriter, *request, answer)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			writeError(w, http.StatusRequestEntityTooLarge, "the body is too large for the demo provider")
			return
		}
		var req request
		if err := json.Unmarshal(body, &req); err != nil {
			writeError(w, http.StatusBadRequest, "the body is not the JSON of a request")
			return
		}
		if req.Model == "" {
			writeError(w, http.StatusBadRequest, "the request names no model")
			return
		}
		w.Header().Set("X-Request-Id", "demo-"+digest(body))
		serve(w, &req, answerTo(&req, body))
	}
}

func answerTo(req *request, body []byte) answer {
	var prompt []string
	for _, part := range []json.RawMessage{req.System, req.Messages, req.Prompt, req.Input} {
		prompt = append(prompt, words(part)...)
	}
	prompt = append(prompt, strings.Fields(req.Instructions)...)
	said := prompt
	if len(said) > maxEcho {
		said = append(append([]string(nil), said[len(said)-maxEcho:]...), "…")
	}
	text := "This is the demo provider of Logos, not a language model."
	if len(said) > 0 {
		text += " You said: " + strings.Join(said, " ")
	}
	a := answer{id: digest(body), model: req.Model, input: len(prompt), stream: req.Stream, usage: req.StreamOptions.IncludeUsage}
	for i, w := range strings.Fields(text) {
		if i > 0 {
			w = " " + w
		}
		a.words = append(a.words, w)
	}
	return a
}

// words returns the words of every text in a prompt: a string, or parts and messages nested in lists.
func words(raw json.RawMessage) []string {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return nil
	}
	var found []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			found = append(found, strings.Fields(v)...)
		case []any:
			for _, e := range v {
				walk(e)
			}
		case object:
			walk(v["content"])
			walk(v["text"])
		}
	}
	walk(v)
	return found
}

func digest(body []byte) string {
	h := fnv.New64a()
	h.Write(body)
	return fmt.Sprintf("%016x", h.Sum64())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // a caller that is gone needs no answer
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, object{"error": object{"message": message, "type": "invalid_request_error", "param": nil, "code": "demo"}})
}

// An events writes server-sent events.
type events struct{ w http.ResponseWriter }

func newEvents(w http.ResponseWriter) events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	return events{w}
}

// send writes one event; a name of "" leaves the event line out.
func (e events) send(name string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own maps
	}
	if name != "" {
		fmt.Fprintf(e.w, "event: %s\n", name)
	}
	fmt.Fprintf(e.w, "data: %s\n\n", data)
	http.NewResponseController(e.w).Flush() // a caller that is gone is noticed by the server
}

func (e events) done() { io.WriteString(e.w, "data: [DONE]\n\n") }
