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
	return r.Bounds(api, []byte(body))
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
		{chat, `{"max_output_tokens":5}`, 0, 1},                           // limits nothing there
		{responses, `{"max_tokens":5,"max_output_tokens":6,"n":4}`, 6, 4}, // llama.cpp turns it into a chat
		{messages, `{"max_tokens":5,"max_output_tokens":6}`, 5, 1},
		{completions, `{"prompt":["a","b","c"],"max_tokens":5,"n":2,"best_of":4}`, 5, 12},
		{completions, `{"prompt":[1,2,3],"max_tokens":5}`, 5, 1},
		{completions, `{"prompt":[[1,2],[3]],"max_tokens":5}`, 5, 2},
		{completions, `{"prompt":"a","n":2,"n_cmpl":8}`, 0, 8}, // llama.cpp's name of it
		{chat, `{"max_tokens":0,"n":null}`, 0, 1},
		{chat, `{"max_tokens":5,"max_completion_tokens":null}`, 5, 1},
		// One that is no number may be taken for one, or for none.
		{chat, `{"max_tokens":5,"max_completion_tokens":"900"}`, 0, 1},
		{chat, `{"max_tokens":5,"max_completion_tokens":-1}`, 0, 1},
		{chat, `{"max_tokens":5,"max_completion_tokens":0}`, 0, 1},
		{chat, `{"max_tokens":5,"max_completion_tokens":[9]}`, 0, 1},
		{chat, `{"max_tokens":5,"max_completion_tokens":1e18}`, 1e15 + 1, 1},
		{chat, `{"max_tokens":5,"max_completion_tokens":1e999}`, 1e15 + 1, 1},
		{chat, `{"max_tokens":5,"n_predict":900}`, 900, 1}, // overrides it at llama.cpp
		{messages, `{"max_tokens":5,"n_predict":-1}`, 0, 1},
		{responses, `{"max_output_tokens":5,"n_predict":900}`, 900, 1},
		{chat, `{"n_predict":7}`, 0, 1}, // which others pass over
	} {
		if got := boundsOf(t, c.api, c.body); got.Output != c.output || got.Answers != c.answers {
			t.Errorf("%s %s: %+v, want %d tokens of each of %d", c.api, c.body, got, c.output, c.answers)
		}
	}
	if !boundsOf(t, chat, `{}`).Caches { // who is not told to may cache by itself
		t.Error("a chat does not write to a cache")
	}
	for body, want := range map[string]bool{`{"modalities":["text","audio"]}`: true, `{"modalities":["\u0061udio"]}`: true, `{}`: false} {
		if got := boundsOf(t, chat, body); got.Audio != want {
			t.Errorf("%s: it may have to do with audio: %t", body, got.Audio)
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

// TestInputIsBounded: no token is shorter than a byte, wherever in the body a text stands.
func TestInputIsBounded(t *testing.T) {
	t.Parallel()
	const chat, responses, messages, embeddings = logos.APIChat, logos.APIResponses, logos.APIMessages, logos.APIEmbeddings
	text := strings.Repeat("1234567 ", 500) // Qwen, Gemma and others make a token of each digit
	image := `data:image/png;base64,` + text
	for _, c := range []struct {
		api  logos.API
		body string
		most int64
	}{
		{chat, `{"messages":[{"role":"user","content":"` + text + `"}]}`, 4000},
		{chat, `{"documents":["` + text + `"]}`, 4000},
		{messages, `{"system":"` + text + `","tools":[{"name":"` + text + `"}]}`, 8000 + 1024},
		{messages, `{"tools":[{"type":"bash_20250124","name":"bash"}]}`, 2048},
		{chat, `{"response_format":{"json_schema":"` + text + `"}}`, 4000},
		{messages, `{"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"` + text + `":1,"url":"` + text + `","data":"` + text + `"}}]}]}`, 12000},
		{messages, `{"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"image_url":"` + image + `"}}]}]}`, 4000},
		{messages, `{"messages":[{"role":"assistant","content":[{"type":"thinking","signature":"` + text + `"}]}]}`, 4000},
		{chat, `{"messages":[{"content":[{"type":"image_url","image_url":{"url":"` + image + `"}}]}]}`, 49_152},
		{chat, `{"messages":[{"content":[{"type":"image_url","image_url":"https://example.org/x.png"}]}]}`, 49_152},
		{responses, `{"input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]}`, 49_152},
		{messages, `{"messages":[{"content":[{"type":"image","source":{"type":"base64","data":"` + text + `"}},{"type":"image","source":{"type":"url","url":"x"}}]}]}`, 2 * 49_152},
		{messages, `{"messages":[{"content":[{"type":"tool_result","content":[{"source":{"type":"file","file_id":"f"},"type":"image"}]}]}]}`, 49_152},
		{messages, `{"messages":[{"content":[{"type":"document","source":{"type":"text","data":"` + text + `"}}]}]}`, 4000},
		{embeddings, `{"input":["` + text + `",[1,2,3]]}`, 4000},
	} {
		if got := boundsOf(t, c.api, c.body); got.Input < c.most || got.Input > c.most+400 || got.Beyond != "" || got.Unbounded != "" {
			t.Errorf("%.90s…: %+v, want about %d tokens at most", c.body, got, c.most)
		}
	}
}

// TestWhatTheBodyDoesNotHoldIsNoted: the context window alone bounds it.
func TestWhatTheBodyDoesNotHoldIsNoted(t *testing.T) {
	t.Parallel()
	const chat, responses, messages = logos.APIChat, logos.APIResponses, logos.APIMessages
	for _, c := range []struct {
		api          logos.API
		body, beyond string
	}{
		{responses, `{"previous_response_id":"r"}`, "previous_response_id"},
		{responses, `{"Previouſ_Response_ID":"r"}`, "previous_response_id"},
		{responses, `{"previous_response_id":null,"conversation":"","input":[{"role":"user","id":"i","content":"x"}]}`, ""},
		{responses, `{"conversation":{"id":"c"}}`, "conversation"},
		{responses, `{"prompt":{"id":"p"}}`, "prompt"},
		{responses, `{"input":[{"type":"item_reference","id":"i"}]}`, "item_reference"},
		{responses, `{"input":[{"id":"i"}]}`, "item_reference"},
		{responses, `{"input":[{"role":"user","content":[{"type":"input_file","file_url":"https://x.example/a.pdf"}]}]}`, "file_url"},
		{responses, `{"input":[{"type":"compaction","encrypted_content":"x"}]}`, "compaction"},
		{chat, `{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"x"}}]}]}`, "input_audio"},
		{chat, `{"messages":[{"role":"user","content":[{"video_url":{"url":"https://x.example"}}]}]}`, "video_url"},
		{chat, `{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"x"}}]}]}`, "file"},
		{chat, `{"messages":[{"role":"assistant","audio":{"id":"a"},"content":null}]}`, "audio"},
		{chat, `{"messages":[{"role":"assistant","audio":null,"content":"x"}]}`, ""},
		{chat, `{"messages":[{"role":"user","content":[{"type":"te\u0078t","text":"x"},{"type":"n\u0065w"}]}]}`, "new"},
		{chat, `{"chat_template":"{% for i in range(9999) %}x{% endfor %}"}`, "chat_template"},
		{chat, `{"extra_body":{"google":{"cached_content":"c"}}}`, "extra_body"},
		{chat, `{"extra_body":{"google":{"thinking_config":{}}}}`, ""},
		{messages, `{"messages":[{"content":[{"type":"document","source":{"type":"base64","data":"x"}}]}]}`, "source"},
		{messages, `{"messages":[{"content":[{"type":"document","type":"image","source":{"type":"url","url":"x"}}]}]}`, "source"},
		{messages, `{"messages":[{"content":[{"type":"document","source":{"type":"file","type":"text","file_id":"x"}}]}]}`, "source"},
	} {
		if got := boundsOf(t, c.api, c.body); got.Beyond != c.beyond || got.Unbounded != "" {
			t.Errorf("%s: %+v, want %q", c.body, got, c.beyond)
		}
	}
}

// TestWhatProvidersDoBesideIsUnbounded: they call models again, with what they found, as often as they like.
func TestWhatProvidersDoBesideIsUnbounded(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"tools":[{"type":"function","function":{"name":"web_search"}},{"name":"x","input_schema":{}},{"type":"custom","name":"y"}]}`: "",
		`{"tools":[{"type":"web_search"}]}`:                   "tools of type web_search",
		`{"tools":[{"type":"w\u0065b_search"}]}`:              "tools of type web_search",
		`{"tools":[{"type":"function"},{"type":"mcp"}]}`:      "tools of type mcp",
		`{"tools":[{"type":"mcp","type":"function"}]}`:        "tools of type mcp",
		`{"tools":[{"google_search":{}}]}`:                    "tools",
		`{"mcp_servers":[{"url":"https://x.example"}]}`:       "mcp_servers",
		`{"mcp_servers":[]}`:                                  "",
		`{"background":true}`:                                 "background",
		`{"background":false,"deferred":null}`:                "",
		`{"web_search_options":{}}`:                           "web_search_options",
		`{"models":["dear"]}`:                                 "models",
		`{"context_management":{"edits":[{"type":"clear"}]}}`: "",
		`{"context_management":[{"type":"compaction"}]}`:      "context_management",
		`{"n":"128"}`:    "n",
		`{"n":-1}`:       "n",
		`{"n_cmpl":[9]}`: "n_cmpl",
		`{"n":2}`:        "",
	} {
		if got := boundsOf(t, logos.APIChat, body); got.Unbounded != want || got.Beyond != "" {
			t.Errorf("%s: %+v, want %q", body, got, want)
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
		// Servers that do not know OpenAI's newer name, and those that go by llama.cpp's above all.
		{chat, logos.DialectCompatible, `{"model":"m","max_completion_tokens":9}`, `{"model":"x","max_tokens":10,"max_completion_tokens":9}`},
		{chat, logos.DialectGemini, `{"model":"m","max_completion_tokens":50}`, `{"model":"x","max_completion_tokens":10}`},
		{chat, logos.DialectCompatible, `{"model":"m","max_tokens":9,"n_predict":-1}`, `{"model":"x","max_tokens":9,"n_predict":10}`},
		{chat, logos.DialectCompatible, `{"model":"m","n_predict":9}`, `{"model":"x","max_tokens":10,"n_predict":9}`},
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
		if got := again.Bounds(api, out); got.Output < 1 || got.Output > 16 {
			t.Errorf("%q becomes %q, with a limit of %d", body, out, got.Output)
		}
		if again.Model != "other" || again.Stream != r.Stream {
			t.Errorf("%q becomes %q", body, out)
		}
	})
}
