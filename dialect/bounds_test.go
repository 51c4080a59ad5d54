package dialect_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

func boundsOf(t *testing.T, api logos.API, body string) dialect.Bounds {
	t.Helper()
	r, err := dialect.Scan([]byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	content := r.Content([]byte(body))
	return r.Bounds(api, []byte(body), &content)
}

func TestBoundsTakeTheMost(t *testing.T) {
	t.Parallel()
	const chat, completions, responses, messages = logos.APIChat, logos.APICompletions, logos.APIResponses, logos.APIMessages
	for _, c := range []struct {
		api             logos.API
		body            string
		output, answers int64
	}{
		{chat, `{"messages":[]}`, 0, 1},
		{chat, `{"max_tokens":7,"max_completion_tokens":9,"n":3}`, 9, 3},
		{chat, `{"max_completion_tokens":9.2}`, 10, 1},
		{chat, `{"max_output_tokens":5}`, 0, 1}, // limits nothing there
		{responses, `{"max_tokens":5,"max_output_tokens":6,"n":4}`, 6, 1},
		{messages, `{"max_tokens":5,"max_output_tokens":6}`, 5, 1},
		{completions, `{"prompt":["a","b","c"],"max_tokens":5,"n":2,"best_of":4}`, 5, 12},
		{completions, `{"prompt":[1,2,3],"max_tokens":5}`, 5, 1},
		{completions, `{"prompt":[[1,2],[3]],"max_tokens":5}`, 5, 2},
		{chat, `{"max_tokens":0,"n":-1}`, 0, 1},
	} {
		if got := boundsOf(t, c.api, c.body); got.Output != c.output || got.Answers != c.answers {
			t.Errorf("%s %s: %+v, want %d tokens of each of %d", c.api, c.body, got, c.output, c.answers)
		}
	}
	for body, want := range map[string]bool{`{"system":[{"cache_control":{}}]}`: true, `{"c\u0061che_control":{}}`: true, `{"messages":[]}`: false} {
		if got := boundsOf(t, messages, body); got.Caches != want {
			t.Errorf("%s: it may write to a cache: %t", body, got.Caches)
		}
	}
	if !boundsOf(t, chat, `{"service_tier":"priority"}`).Tier || boundsOf(t, chat, `{}`).Tier {
		t.Error("a service tier is not seen, or seen where there is none")
	}
}

// TestInputIsBounded compares with what tokenizers make of it: no more than a token for each two bytes of text.
func TestInputIsBounded(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("wörter ", 500)
	for body, least := range map[string]int64{
		`{"messages":[{"role":"user","content":"` + text + `"}]}`:                                               int64(len(text)) / 2,
		`{"system":"` + text + `","tools":[{"name":"` + text + `"}]}`:                                           int64(len(text)),
		`{"response_format":{"json_schema":"` + text + `"}}`:                                                    int64(len(text)) / 2,
		`{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:` + text + `"}}]}]}`:             4096,
		`{"messages":[{"content":[{"type":"file","file":{"file_data":"` + text + `"}}]}]}`:                      int64(len(text)) / 32,
		`{` + otherContent + `"messages":[{"role":"user","content":"` + text + `"}]}`:                           int64(len(text)) / 2,
		`{"messages":[` + strings.TrimSuffix(strings.Repeat(`{"role":"user","content":"a"},`, 100), ",") + `]}`: 400,
	} {
		if got := boundsOf(t, logos.APIChat, body); got.Input < least || got.Input > 3*least+100 {
			t.Errorf("%.80s…: at most %d tokens, want about %d", body, got.Input, least)
		}
	}
}

func TestALimitIsLoweredWhereItStands(t *testing.T) {
	t.Parallel()
	const chat = logos.APIChat
	for _, c := range []struct {
		api        logos.API
		dialect    logos.Dialect
		body, want string
	}{
		{chat, logos.DialectOpenAI, `{"model":"m","n":1}`, `{"model":"x","max_completion_tokens":10,"n":1}`},
		{chat, logos.DialectCompatible, `{"model":"m","max_tokens":50}`, `{"model":"x","max_tokens":10}`},
		{chat, logos.DialectOpenAI, `{"max_tokens":50, "model":"m","max_completion_tokens":9}`, `{"max_tokens":10, "model":"x","max_completion_tokens":9}`},
		{chat, logos.DialectOpenAI, `{"max_tokens":null,"model":"m"}`, `{"max_tokens":10,"model":"x"}`},
		{logos.APIResponses, logos.DialectOpenAI, `{"model":"m","max_tokens":5}`, `{"model":"x","max_output_tokens":10,"max_tokens":5}`},
		{logos.APIMessages, logos.DialectAnthropic, `{"model":"m","max_tokens":1e3}`, `{"model":"x","max_tokens":10}`},
		{chat, logos.DialectCompatible, `{}`, `{"model":"x","max_tokens":10}`},
		{chat, logos.DialectCompatible, ` { } `, ` {"model":"x","max_tokens":10 } `},
	} {
		r, err := dialect.Scan([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		got := string(dialect.Apply([]byte(c.body), r.Limit(c.api, c.dialect, 10, r.Splices(c.api, "x", true))))
		want := c.want
		if !sameJSON(got, want) {
			t.Errorf("%s becomes %s, want %s", c.body, got, want)
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	left, _ := json.Marshal(x)
	right, _ := json.Marshal(y)
	return string(left) == string(right)
}

// FuzzLimit: whatever the body, lowering its limit leaves JSON of which nothing else has changed.
func FuzzLimit(f *testing.F) {
	for _, b := range bodies {
		f.Add([]byte(b), uint8(0))
	}
	apis := []logos.API{logos.APIChat, logos.APICompletions, logos.APIResponses, logos.APIMessages}
	f.Fuzz(func(t *testing.T, body []byte, n uint8) {
		r, err := dialect.Scan(body)
		if err != nil {
			return
		}
		api := apis[int(n)%len(apis)]
		out := dialect.Apply(body, r.Limit(api, logos.DialectOpenAI, 16, r.Splices(api, "other", true)))
		again, err := dialect.Scan(out)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", body, out, err)
		}
		content := again.Content(out)
		if got := again.Bounds(api, out, &content); got.Output < 1 || got.Output > 16 {
			t.Errorf("%q becomes %q, with a limit of %d", body, out, got.Output)
		}
		if again.Model != "other" || again.Stream != r.Stream {
			t.Errorf("%q becomes %q", body, out)
		}
	})
}
