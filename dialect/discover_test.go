package dialect_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

func TestAsksForModelsWhereTheDialectHasThem(t *testing.T) {
	for _, c := range []struct {
		dialect          logos.Dialect
		base, page, want string
	}{
		{logos.DialectOpenAI, "https://api.openai.com", "", "/v1/models"},
		{logos.DialectOpenAI, "https://api.openai.com/v1/", "", "/v1/models"},
		{logos.DialectCompatible, "http://h/deep/api?tenant=1", "", "/deep/api/models?tenant=1"},
		{logos.DialectAzure, "https://x.openai.azure.com", "", "/openai/v1/models"},
		{logos.DialectGemini, "https://generativelanguage.googleapis.com", "", "/v1beta/openai/models"},
		{logos.DialectAnthropic, "https://api.anthropic.com", "", "/v1/models?limit=1000"},
		{logos.DialectAnthropic, "https://api.anthropic.com/v1", "a&b", "/v1/models?limit=1000&after_id=a%26b"},
	} {
		q := dialect.ListModels(provider(t, c.dialect, c.base), c.page)
		if q.Path != c.want || q.Method != "GET" || q.API != logos.APINone || q.Body != nil || (q.Header["anthropic-version"] != "") != (c.dialect == logos.DialectAnthropic) {
			t.Errorf("%s at %s asks %+v, want %s", c.dialect, c.base, q, c.want)
		}
	}
}

func TestAsksForLittle(t *testing.T) {
	for _, c := range []struct {
		dialect    logos.Dialect
		deployment logos.Deployment
		endpoint   string // of the model
		path, has  string
	}{
		{logos.DialectOpenAI, logos.Deployment{}, "", "/v1/chat/completions", `"max_completion_tokens":1`},
		{logos.DialectAzure, logos.Deployment{}, "", "/openai/v1/chat/completions", `"max_completion_tokens":1`},
		{logos.DialectCompatible, logos.Deployment{}, "", "/v1/chat/completions", `"max_tokens":1`},
		{logos.DialectGemini, logos.Deployment{}, "", "/v1beta/openai/chat/completions", `"max_tokens":1`},
		{logos.DialectAnthropic, logos.Deployment{}, "", "/v1/messages", `"max_tokens":1`},
		{logos.DialectOpenAI, logos.Deployment{APIs: []logos.API{logos.APIEmbeddings}}, "", "/v1/embeddings", `"input":"Hi"`},
		{logos.DialectOpenAI, logos.Deployment{APIs: []logos.API{logos.APICompletions}}, "", "/v1/completions", `"prompt":"Hi"`},
		{logos.DialectOpenAI, logos.Deployment{APIs: []logos.API{logos.APIResponses}}, "", "/v1/responses", `"store":false`},
		{logos.DialectCompatible, logos.Deployment{Endpoint: "api/chat/completions"}, "other/chat/completions", "/api/chat/completions", `"messages"`},
		{logos.DialectCompatible, logos.Deployment{}, "other/chat/completions", "/other/chat/completions", `"messages"`},
	} {
		p := provider(t, c.dialect, "https://h")
		q, ok := dialect.AskForLittle(&logos.Target{Provider: p, Deployment: &c.deployment, Model: &logos.Model{Endpoint: c.endpoint}}, `a "model"`)
		var body struct{ Model string }
		if err := json.Unmarshal(q.Body, &body); err != nil || !ok || q.Path != c.path || !strings.Contains(string(q.Body), c.has) || body.Model != `a "model"` || q.Method != "POST" {
			t.Errorf("%s asks %s %s, want %s with %s", c.dialect, q.Path, q.Body, c.path, c.has)
		}
		// What it asks is a request that callers could make too.
		if _, err := dialect.Scan(q.Body); err != nil {
			t.Errorf("%s: %v", q.Body, err)
		}
	}
	if q, ok := dialect.AskForLittle(&logos.Target{Provider: provider(t, logos.DialectOpenAI, "https://h"), Deployment: &logos.Deployment{APIs: []logos.API{"images"}}, Model: &logos.Model{}}, "m"); ok {
		t.Errorf("an API that is not known is asked %+v", q)
	}
}

func TestReadsListsOfModels(t *testing.T) {
	for _, c := range []struct {
		name, body string
		dialect    logos.Dialect
		want       []string
		next       string
		bad        bool
	}{
		{name: "OpenAI's", body: `{"object":"list","data":[{"id":"a","object":"model"},{"id":"b"}]}`, want: []string{"a", "b"}},
		{name: "llama.cpp's, which has both", body: `{"models":[{"name":"x"}],"data":[{"id":"a"}]}`, want: []string{"a"}},
		{name: "Anthropic's", body: `{"data":[{"type":"model","id":"c"}],"has_more":true,"first_id":"c","last_id":"c"}`, want: []string{"c"}, next: "c"},
		{name: "Anthropic's last", body: `{"data":[{"id":"c"}],"has_more":false,"last_id":"c"}`, want: []string{"c"}},
		{name: "Gemini's own", dialect: logos.DialectGemini, body: `{"models":[{"name":"models/g"}],"nextPageToken":"x"}`, want: []string{"g"}},
		{name: "Gemini's in OpenAI's shape", dialect: logos.DialectGemini, body: `{"data":[{"id":"models/g"}]}`, want: []string{"g"}},
		{name: "of no model", body: `{"data":[]}`},
		{name: "with names that are none", body: `{"data":[{"id":""},{"id":"` + strings.Repeat("x", 257) + `"},{"id":"a"}]}`, want: []string{"a"}},
		{name: "HTML", body: `<html>`, bad: true},
		{name: "another object", body: `{"status":"ok"}`, bad: true},
		{name: "a text", body: `"data"`, bad: true},
		{name: "data of another type", body: `{"data":"x"}`, bad: true},
	} {
		names, next, err := dialect.ReadModels(c.dialect, []byte(c.body))
		if !slices.Equal(names, c.want) || next != c.next || (err != nil) != c.bad {
			t.Errorf("%s gives %q, %q, %v", c.name, names, next, err)
		}
	}
}
