package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// What the mock provider says. It is the same for every call, so that the loader knows each byte.
const (
	modelName    = "bench-model"
	promptTokens = 250
	answerTokens = 40
	streamTokens = 200
)

// account is what the mock has done for one credential: its side of the books.
type account struct {
	Requests int64 `json:"requests"`
	Tokens   int64 `json:"tokens"` // those reported as usage, prompt and completion
}

// A mock is the provider. It speaks just enough of OpenAI's chat API, from bytes made beforehand, so that
// it takes little of the CPU that it shares with what is measured.
type mock struct {
	gap    time.Duration
	answer []byte
	events [][]byte // one for each token
	usage  []byte
	done   []byte

	mu    sync.Mutex
	books map[string]*account // by Authorization header
}

func newMock(gap time.Duration) *mock {
	m := &mock{gap: gap, done: []byte("data: [DONE]\n\n"), books: make(map[string]*account)}
	const usage = `"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`
	m.answer = fmt.Appendf(nil, `{"id":"chatcmpl-bench","object":"chat.completion","created":1767225600,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":"This is what a mock provider says to everybody, at some length, so that an answer is about as long as a short one of a real model would be, and no longer."},"logprobs":null,"finish_reason":"stop"}],`+usage+`}`,
		modelName, promptTokens, answerTokens, promptTokens+answerTokens)
	const head = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1767225600,"model":%q,"choices":[`
	for i := range streamTokens {
		finish := "null"
		if i == streamTokens-1 {
			finish = `"stop"`
		}
		m.events = append(m.events, fmt.Appendf(nil, head+`{"index":0,"delta":{"content":" token"},"finish_reason":%s}]}`+"\n\n", modelName, finish))
	}
	m.usage = fmt.Appendf(nil, head+`],`+usage+"}\n\n", modelName, promptTokens, streamTokens, promptTokens+streamTokens)
	return m
}

// wholeStream is what a stream with usage consists of.
func (m *mock) wholeStream() []byte {
	return bytes.Join(append(append([][]byte(nil), m.events...), m.usage, m.done), nil)
}

func (m *mock) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", m.chat)
	mux.HandleFunc("GET /books", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		json.NewEncoder(w).Encode(m.books) // who asks sees what is missing
	})
	return mux
}

func (m *mock) chat(w http.ResponseWriter, r *http.Request) {
	read := bytes.NewBuffer(make([]byte, 0, max(r.ContentLength, 0)+bytes.MinRead))
	if _, err := io.Copy(read, r.Body); err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	credential := r.Header.Get("Authorization")
	m.note(credential, 1, 0)
	if !hasTrue(read.Bytes(), `"stream"`) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(m.answer)))
		m.note(credential, 0, promptTokens+answerTokens)
		w.Write(m.answer) // a caller that is gone shows as an error of the loader
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	m.stream(w, credential, hasTrue(read.Bytes(), `"include_usage"`))
}

// stream sends each token on its own. It keeps to a timetable, so that sleeping too long now and then
// does not make a stream longer.
func (m *mock) stream(w http.ResponseWriter, credential string, usage bool) {
	flush, start := http.NewResponseController(w), time.Now()
	for i, event := range m.events {
		if m.gap > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(i) * m.gap)))
		}
		if _, err := w.Write(event); err != nil {
			return
		}
		if err := flush.Flush(); err != nil {
			return
		}
	}
	if usage {
		m.note(credential, 0, promptTokens+streamTokens)
		w.Write(m.usage)
	}
	w.Write(m.done)
}

func (m *mock) note(credential string, requests, tokens int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.books[credential]
	if a == nil {
		a = new(account)
		m.books[credential] = a
	}
	a.Requests += requests
	a.Tokens += tokens
}

// hasTrue says whether the quoted key is followed by true. The loader's prompts contain no such key.
func hasTrue(body []byte, key string) bool {
	i := bytes.LastIndex(body, []byte(key))
	return i >= 0 && bytes.HasPrefix(bytes.TrimLeft(body[i+len(key):], " \t\r\n:"), []byte("true"))
}

// serveMock is the mock's process: it serves on the listener that it inherited as its first extra file,
// until its standard input ends, which it does with its parent.
func serveMock(gapText string) error {
	gap, err := time.ParseDuration(gapText)
	if err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		listener.Close() // ends Serve and with it the process
	}()
	err = http.Serve(listener, newMock(gap).handler())
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
