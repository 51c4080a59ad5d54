package demo_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos/demo"
)

func post(t *testing.T, path, body string) (status int, answer string) {
	t.Helper()
	w := httptest.NewRecorder()
	demo.NewHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// at walks into decoded JSON: strings are keys, ints are indexes.
func at(t *testing.T, text string, path ...any) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				t.Fatalf("no element %d in %s", p, text)
			}
			v = l[p]
		}
	}
	return v
}

func TestEveryAPISaysThatItIsTheDemo(t *testing.T) {
	const prompt = `"messages":[{"role":"user","content":"one two three"}]`
	for _, tt := range []struct {
		path, body    string
		text          []any
		input, output []any
	}{
		{"/v1/chat/completions", prompt, []any{"choices", 0, "message", "content"}, []any{"usage", "prompt_tokens"}, []any{"usage", "completion_tokens"}},
		{"/v1/completions", `"prompt":"one two three"`, []any{"choices", 0, "text"}, []any{"usage", "prompt_tokens"}, []any{"usage", "completion_tokens"}},
		{"/v1/responses", `"input":[{"role":"user","content":[{"type":"input_text","text":"one two three"}]}]`, []any{"output", 0, "content", 0, "text"}, []any{"usage", "input_tokens"}, []any{"usage", "output_tokens"}},
		{"/v1/messages", prompt, []any{"content", 0, "text"}, []any{"usage", "input_tokens"}, []any{"usage", "output_tokens"}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			status, answer := post(t, tt.path, `{"model":"demo",`+tt.body+`}`)
			text, _ := at(t, answer, tt.text...).(string)
			if status != http.StatusOK || !strings.Contains(text, "demo provider") || !strings.HasSuffix(text, "one two three") {
				t.Errorf("%d %s", status, answer)
			}
			if got := at(t, answer, tt.input...); got != 3.0 {
				t.Errorf("input tokens: %v", got)
			}
			if got := at(t, answer, tt.output...); got != float64(len(strings.Fields(text))) {
				t.Errorf("output tokens: %v, but the words are %d", got, len(strings.Fields(text)))
			}
		})
	}
}

func TestStreamsSayTheSameAsAnswers(t *testing.T) {
	for _, tt := range []struct {
		path, body string
		delta      []any
	}{
		{"/v1/chat/completions", `"messages":[{"role":"user","content":"hello"}]`, []any{"choices", 0, "delta", "content"}},
		{"/v1/completions", `"prompt":"hello"`, []any{"choices", 0, "text"}},
		{"/v1/responses", `"input":"hello"`, []any{"delta"}},
		{"/v1/messages", `"messages":[{"role":"user","content":"hello"}]`, []any{"delta", "text"}},
	} {
		t.Run(tt.path, func(t *testing.T) {
			_, stream := post(t, tt.path, `{"model":"demo","stream":true,"stream_options":{"include_usage":false},`+tt.body+`}`)
			var said string
			for _, data := range eventData(stream) {
				if data != "[DONE]" {
					text, _ := at(t, data, tt.delta...).(string)
					said += text
				}
			}
			if !strings.Contains(said, "demo provider") || !strings.HasSuffix(said, "You said: hello") {
				t.Errorf("%q from %s", said, stream)
			}
		})
	}
}

func TestChatStreamHasUsageOnlyWhenAsked(t *testing.T) {
	for _, ask := range []bool{true, false} {
		option := map[bool]string{true: "true", false: "false"}[ask]
		_, stream := post(t, "/v1/chat/completions", `{"model":"demo","stream":true,"stream_options":{"include_usage":`+option+`},"messages":[{"role":"user","content":"a b"}]}`)
		data := eventData(stream)
		last := data[len(data)-2] // before [DONE]
		if got := at(t, last, "usage", "prompt_tokens"); (got == 2.0) != ask {
			t.Errorf("asked: %t, last chunk: %s", ask, last)
		}
	}
}

func TestEmbeddingsDependOnTheTextAlone(t *testing.T) {
	_, one := post(t, "/v1/embeddings", `{"model":"demo","input":["a","b","a"],"dimensions":4}`)
	first, other, again := at(t, one, "data", 0, "embedding"), at(t, one, "data", 1, "embedding"), at(t, one, "data", 2, "embedding")
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	if text(first) != text(again) || text(first) == text(other) || len(first.([]any)) != 4 {
		t.Errorf("%v, %v, %v", first, other, again)
	}
	_, encoded := post(t, "/v1/embeddings", `{"model":"demo","input":"a","encoding_format":"base64"}`)
	if s, ok := at(t, encoded, "data", 0, "embedding").(string); !ok || len(s) < 32 {
		t.Errorf("base64: %s", encoded)
	}
}

func TestRefusalsAreJSON(t *testing.T) {
	for _, tt := range []struct {
		path, body string
		status     int
	}{
		{"/v1/chat/completions", `{`, 400},
		{"/v1/chat/completions", `{"messages":[]}`, 400},
		{"/v1/embeddings", `{"model":"demo","input":"a","dimensions":-1}`, 400},
		{"/v1/images", `{}`, 404},
	} {
		status, answer := post(t, tt.path, tt.body)
		if message, _ := at(t, answer, "error", "message").(string); status != tt.status || message == "" {
			t.Errorf("%s %s: %d %s", tt.path, tt.body, status, answer)
		}
	}
}

func TestModelsListsTheOne(t *testing.T) {
	s := httptest.NewServer(demo.NewHandler())
	defer s.Close()
	resp, err := http.Get(s.URL + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || at(t, string(body), "data", 0, "id") != demo.Model {
		t.Errorf("%v %s", err, body)
	}
}

func eventData(stream string) (data []string) {
	for scan := bufio.NewScanner(strings.NewReader(stream)); scan.Scan(); {
		if d, ok := strings.CutPrefix(scan.Text(), "data: "); ok {
			data = append(data, d)
		}
	}
	return data
}
