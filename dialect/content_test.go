package dialect_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos/dialect"
)

func content(t *testing.T, body string) dialect.Content {
	t.Helper()
	r, err := dialect.Scan([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r.Content([]byte(body))
}

func TestReadsWhatARequestSaysAndUses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body    string
		system, user  string
		tools, images bool
		schema        bool
		tokens        int64
	}{
		{name: "chat", body: `{"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"content":"th\u00fcr\"ee\n","role":"user"}]}`, system: "be kind", user: "thür\"ee\n", tokens: 7},
		{name: "parts", body: `{"messages":[{"role":"developer","content":[{"type":"text","text":"d"}]},{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`, system: "d", user: "look", images: true, tokens: 802},
		{name: "anthropic", body: `{"system":[{"type":"text","text":"sys"}],"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAAAAAA"}},{"type":"text","text":"hm"}]}],"tools":[{"name":"t"}]}`, system: "sys", user: "hm", images: true, tools: true, tokens: 805},
		{name: "responses", body: `{"instructions":"i","input":[{"role":"user","content":[{"type":"input_text","text":"q"},{"type":"input_image","image_url":"https://x"}]}],"text":{"format":{"type":"json_schema"}}}`, system: "i", user: "q", images: true, schema: true, tokens: 801},
		{name: "text input", body: `{"input":"hello you"}`, user: "hello you", tokens: 3},
		{name: "texts", body: `{"input":["a","b"]}`, user: "b", tokens: 1},
		{name: "token numbers", body: `{"prompt":[[1,22,333],[4]]}`, tokens: 4},
		{name: "no tools", body: `{"tools":[],"response_format":{"type":"json_object"}}`, tokens: 1},
		{name: "odd", body: `{"messages":{"role":"user","content":{"text":"x"}},"input":null,"prompt":[]}`, user: "x", tokens: 1},
		{name: "nothing", body: `{}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := content(t, c.body)
			if string(got.System) != c.system || string(got.User) != c.user {
				t.Errorf("system %q, user %q; want %q, %q", got.System, got.User, c.system, c.user)
			}
			if got.Tools != c.tools || got.Images != c.images || got.JSONSchema != c.schema || got.Tokens != c.tokens {
				t.Errorf("got %+v, want %+v", got, c)
			}
		})
	}
}

// otherContent is every field of content but the messages.
const otherContent = `"input":"","prompt":"","system":"","instructions":"","tools":[],"functions":[],"response_format":{},"text":{},"output_format":{},"output_config":{},`

// What stands behind many other fields, or is written in an unusual way, counts for policies like anything else.
func TestNothingHidesContent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 40_000)
	for name, c := range map[string]struct {
		body   string
		tokens int64
		images bool
	}{
		"behind all other fields": {`{` + otherContent + `"messages":[{"role":"user","content":"` + long + `"}]}`, 10_000, false},
		"an image with escapes":   {`{"messages":[{"role":"user","content":[{"type":"im\u0061ge","source":{"data":"AA"}}]}]}`, 800, true},
		"a tool's input":          {`{"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"url":"` + long + `"}}]}]}`, 10_000, false},
	} {
		if got := content(t, c.body); got.Tokens < c.tokens || got.Tokens > c.tokens+20 || got.Images != c.images {
			t.Errorf("%s: %d tokens, images: %t", name, got.Tokens, got.Images)
		}
	}
	for _, body := range []string{
		`{"messages":[],"messages":[{"role":"user","content":"x"}]}`, `{"messages":[],"m\u0065ssages":[]}`, `{"Messages":[]}`, `{"messages":[],"meſſages":[]}`,
		`{"max_tokens":1,"max_to\u212aens":9}`, `{"tools":[],"TOOLS":[]}`,
	} {
		if _, err := dialect.Scan([]byte(body)); err == nil {
			t.Errorf("%s is taken, and decoders differ in what it says", body)
		}
	}
}

func TestReadsOfLongTextsTheEndsAlone(t *testing.T) {
	t.Parallel()
	got := content(t, `{"messages":[{"role":"user","content":"start`+strings.Repeat(`\n`, 50_000)+`end"}]}`)
	if !strings.HasPrefix(string(got.User), "start") || !strings.HasSuffix(string(got.User), "end") || len(got.User) > 5000 {
		t.Errorf("of a long text there are %d bytes", len(got.User))
	}
	if got.Tokens != 25_002 || len(got.Prefix) != 2048 {
		t.Errorf("it has %d tokens and a prefix of %d bytes", got.Tokens, len(got.Prefix))
	}
}

// FuzzContent checks that whatever may be sent is read to its end, and that the plain form is read right.
func FuzzContent(f *testing.F) {
	f.Add(`{"messages":[{"role":"user","content":"x"}],"tools":[{}]}`, "hi")
	f.Add(`{"input":[1,[2,{"type":"image"}],"\ud83d"],"system":{"a":[]}}`, "\\\" \x00")
	f.Fuzz(func(t *testing.T, body, text string) {
		if r, err := dialect.Scan([]byte(body)); err == nil {
			c := r.Content([]byte(body))
			if c.Tokens < 0 || c.Tokens > int64(len(body))*1000 {
				t.Errorf("%q has %d tokens", body, c.Tokens)
			}
		}
		if strings.ToValidUTF8(text, "") != text || len(text) > 4000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > 0xffff }) {
			return
		}
		encoded, err := json.Marshal(map[string]any{"messages": []map[string]string{{"role": "user", "content": text}}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := dialect.Scan(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if c := r.Content(encoded); string(c.User) != text && len(encoded) < 4096 {
			t.Errorf("%q is read as %q", text, c.User)
		}
	})
}

func BenchmarkContent(b *testing.B) {
	body := []byte(`{"model":"m","messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"` + strings.Repeat("lorem ipsum ", 80) + `"}]}`)
	r, err := dialect.Scan(body)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.Content(body)
	}
}
