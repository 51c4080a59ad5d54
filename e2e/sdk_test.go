package e2e_test

import (
	"slices"
	"testing"
)

// An sdkCall is what an official package made of an answer.
type sdkCall struct {
	ID                 string
	Prompt, Completion int64
	Text               string
}

// An sdkError is the exception that it raised.
type sdkError struct {
	Class, Code, Type, ID, Header string
	Status                        int
}

// startForSDKs starts a gateway before two llama.cpp servers, one for text and one for embeddings.
func startForSDKs(t *testing.T) *gateway {
	t.Helper()
	text, embeddings := startLlama(t, "text"), startLlama(t, "embeddings")
	g := start(t, nil)
	g.deploy("tiny", "", llama("llama", text))
	g.deploy("tiny-embeddings", "embeddings", llama("embeddings", embeddings))
	return g
}

// checkSDKCalls compares the record of each call with the tokens that the package reports.
func (g *gateway) checkSDKCalls(t *testing.T, calls map[string]sdkCall, want ...string) {
	t.Helper()
	for _, name := range want {
		c, ok := calls[name]
		if !ok || c.ID == "" {
			t.Errorf("%s: no call in %v", name, calls)
			continue
		}
		g.checkTokens(t, c.ID, c.Prompt, c.Completion)
	}
	if len(calls) != len(want) {
		t.Errorf("%d calls, want %d: %v", len(calls), len(want), calls)
	}
}

// sameText checks that calls with the same question got the same text.
func sameText(t *testing.T, calls map[string]sdkCall, names ...string) {
	t.Helper()
	for _, name := range names {
		if text := calls[name].Text; text == "" || text != calls[names[0]].Text {
			t.Errorf("%s got the text %q, %s got %q", name, text, names[0], calls[names[0]].Text)
		}
	}
}

// refused checks an exception, and that the call which it names is on record as refused.
func (g *gateway) refused(t *testing.T, got, want sdkError) {
	t.Helper()
	id := got.ID
	got.ID, got.Header = "", ""
	if id == "" || got != want {
		t.Errorf("the package raised %+v with the id %q, want %+v", got, id, want)
		return
	}
	if rec := g.record(id); rec.EndReason != "refused" || rec.Status != want.Status || rec.Error == nil || rec.Error.Code != want.Code {
		t.Errorf("record of %+v: %+v", got, rec)
	}
}

func TestOpenAIPython(t *testing.T) {
	g := startForSDKs(t)
	var got struct {
		Calls           map[string]sdkCall
		Dimensions      []int
		Models          []string
		Model           string
		Unknown         sdkError
		AzureUnknown    sdkError `json:"azure_unknown"`
		Unauthenticated sdkError
	}
	runPython(t, &got, "use_openai.py", "http://"+g.data, g.root, "tiny", "tiny-embeddings")
	g.checkSDKCalls(t, got.Calls, "chat", "chat, streamed", "chat, asynchronous", "embeddings", "completions", "responses", "responses, streamed",
		"Azure chat", "Azure chat, streamed", "Azure embeddings")
	sameText(t, got.Calls, "chat", "chat, streamed", "chat, asynchronous", "Azure chat", "Azure chat, streamed")
	sameText(t, got.Calls, "responses", "responses, streamed")
	sameText(t, got.Calls, "completions")
	if !slices.Equal(got.Dimensions, []int{64, 64}) {
		t.Errorf("embeddings of dimensions %v", got.Dimensions)
	}
	if !slices.Equal(got.Models, []string{"tiny", "tiny-embeddings"}) || got.Model != "tiny" {
		t.Errorf("models %v, and %q", got.Models, got.Model)
	}
	unknown := sdkError{Class: "NotFoundError", Status: 404, Code: "model_not_found", Type: "invalid_request_error"}
	g.refused(t, got.Unknown, unknown)
	g.refused(t, got.AzureUnknown, unknown)
	if e := got.Unauthenticated; e.Class != "AuthenticationError" || e.Status != 401 || e.Code != "invalid_api_key" || e.ID == "" {
		t.Errorf("a wrong key raised %+v", e)
	}
}

func TestAnthropicPython(t *testing.T) {
	g := startForSDKs(t)
	var got struct {
		Calls           map[string]sdkCall
		Streamed        string
		StopReason      string `json:"stop_reason"`
		Unknown         sdkError
		UnknownStreamed sdkError `json:"unknown_streamed"`
		Unauthenticated sdkError
	}
	runPython(t, &got, "use_anthropic.py", "http://"+g.data, g.root, "tiny")
	g.checkSDKCalls(t, got.Calls, "messages", "messages, streamed", "messages with a bearer token")
	sameText(t, got.Calls, "messages", "messages, streamed", "messages with a bearer token")
	if got.Streamed != got.Calls["messages"].Text || got.StopReason != "max_tokens" {
		t.Errorf("the stream said %q and stopped by %q", got.Streamed, got.StopReason)
	}
	for _, e := range []sdkError{got.Unknown, got.UnknownStreamed, got.Unauthenticated} {
		if e.ID != e.Header {
			t.Errorf("the error names request %q, its header %q", e.ID, e.Header)
		}
	}
	unknown := sdkError{Class: "NotFoundError", Status: 404, Code: "model_not_found", Type: "not_found_error"}
	g.refused(t, got.Unknown, unknown)
	g.refused(t, got.UnknownStreamed, unknown)
	if e := got.Unauthenticated; e.Class != "AuthenticationError" || e.Status != 401 || e.Type != "authentication_error" || e.ID == "" {
		t.Errorf("a wrong key raised %+v", e)
	}
}
