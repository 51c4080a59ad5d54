package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// A curl makes set-up calls as a reader of the seed's steps does. Where an answer is expected to hold
// {name}, what stands there is known by that name from then on, in bodies, headers and answers.
type curl struct {
	t     *testing.T
	admin string
	known map[string]string
}

var (
	placeholder = regexp.MustCompile(`\\\{([a-z]+)\\\}`)
	shapes      = map[string]string{"key": `lg-[0-9A-Za-z_-]{20,}`, "note": `[^"]*x-logos-proxy[^"]*`}
)

func (c *curl) fill(text string) string {
	for name, value := range c.known {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// send makes a call and returns its status and its answer with sorted fields.
func (c *curl) send(method, call, body string, headers ...string) (int, string) {
	c.t.Helper()
	var r io.Reader
	if method == "POST" {
		r = strings.NewReader(c.fill(body))
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.admin+"/logosdb/"+call, r)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("content-type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(c.fill(h), ": ")
		if name == "host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	var answer any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&answer); err != nil || resp.Header.Get("content-type") != "application/json" {
		c.t.Fatalf("%s %s answered %d %q: %v", method, call, resp.StatusCode, text, err)
	}
	sorted, err := json.Marshal(answer)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(sorted)
}

// step makes a call that must be answered with 200 and want.
func (c *curl) step(method, call, body, want string, headers ...string) {
	c.t.Helper()
	status, answer := c.send(method, call, body, headers...)
	var names []string
	pattern := placeholder.ReplaceAllStringFunc(regexp.QuoteMeta(c.fill(want)), func(p string) string {
		name := strings.Trim(p, `\{}`)
		names = append(names, name)
		if shape, ok := shapes[name]; ok {
			return "(" + shape + ")"
		}
		return "([1-9][0-9]{0,8})"
	})
	found := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(answer)
	if status != 200 || found == nil {
		c.t.Fatalf("%s %s %s answered %d %s, want 200 %s", method, call, body, status, answer, c.fill(want))
	}
	for i, name := range names {
		c.known[name] = found[i+1]
	}
}

func TestSeedStepsAgainstLlamaCpp(t *testing.T) {
	base := startLlama(t, "text")
	embeddings := startLlama(t, "embeddings")
	g := start(t, nil)
	c := &curl{t: t, admin: g.admin, known: map[string]string{"base": base}}
	const address = `"provider_name":"llama.cpp","base_url":"{base}/v1"`

	c.step("POST", "setup", `{`+address+`}`, `{"logos-key":"{key}"}`)
	g.root = c.known["key"]
	t.Run("a plain proxy after step 1", func(t *testing.T) {
		for _, name := range []string{"logos_key", "logos-key"} {
			own := []string{"authorization: Bearer " + llamaKey, name + ": " + g.root}
			for path, body := range map[string]string{
				"/v1/chat/completions": chatBody("any", false), "/v1/messages": `{"max_tokens":4,"messages":[{"role":"user","content":"Hi."}]}`,
			} {
				r := g.call("POST", path, body, own...)
				if r.status != 200 {
					t.Fatalf("%s with %s: %v", path, name, r)
				}
				said := reported(t, r)
				g.checkTokens(t, r.id(), said.prompt, said.completion)
			}
			if r := g.call("GET", "/v1/models", "", own...); r.status != 200 || !strings.Contains(string(r.body), `"owned_by":"llamacpp"`) {
				t.Errorf("the provider's models: %v", r)
			}
			r := g.call("POST", "/v1/chat/completions", chatBody("any", false), "authorization: Bearer sk-other", name+": "+g.root)
			if r.status != 401 || !strings.Contains(string(r.body), "authentication_error") {
				t.Errorf("with a key that the provider doesn't know: %v", r)
			}
		}
	})

	c.step("POST", "add_provider", `{"logos_key":"{key}",`+address+`,"api_key":"`+llamaKey+`","auth_name":"authorization","auth_format":"Bearer {}"}`,
		`{"api-id":{api},"provider-id":{provider},"result":"Created Provider."}`)
	c.step("POST", "add_model", `{"logos_key":"{key}","name":"tiny","endpoint":"chat/completions"}`, `{"model_id":{model},"result":"Created Model"}`)
	c.step("GET", "get_process_id", "", `{"result":{process}}`, "logos_key: {key}")
	c.step("GET", "get_process_id", "", `{"result":{process}}`, "logos-key: {key}")
	c.step("POST", "get_process_id", `{"logos_key":"{key}"}`, `{"result":{process}}`)
	c.step("POST", "add_profile", `{"logos_key":"{key}","profile_name":"course","process_id":{process}}`, `{"profile-id":{profile},"result":"Added profile"}`)
	c.step("GET", "get_api_id", "", `{"api-id":{api},"result":"API-ID: {api}"}`, "logos_key: {key}", "api_key: "+llamaKey)
	c.step("GET", "get_api_id", "", `{"api-id":{api},"result":"API-ID: {api}"}`, "logos-key: {key}", "api-key: "+llamaKey)
	c.step("POST", "get_api_id", `{"logos_key":"{key}","api_key":"`+llamaKey+`"}`, `{"api-id":{api},"result":"API-ID: {api}"}`)
	c.step("POST", "connect_process_provider", `{"logos_key":"{key}","profile_id":{profile},"api_id":{api}}`, `{"result":"Added connection to api."}`)
	c.step("POST", "connect_process_model", `{"logos_key":"{key}","profile_id":{profile},"model_id":{model}}`,
		`{"note":"{note}","result":"Connected process to model. ID: {grant}"}`)
	c.step("POST", "connect_model_provider", `{"logos_key":"{key}","model_id":{model},"provider_id":{provider}}`,
		`{"result":"Connected Model to Provider. ID: {deployment}."}`)
	g.waitRevision()
	if r := g.chat("tiny"); r.status != 200 { // with the profile's credential
		t.Errorf("before the optional step 8: %v", r)
	}
	c.step("POST", "connect_model_api", `{"logos_key":"{key}","model_id":{model},"api_id":{api}}`, `{"result":"Added api-connection to model."}`)

	g.deploy("tiny-embeddings", "embeddings", llama("embeddings", embeddings))
	checkCalls(t, g)
	t.Run("a proxy still, by header", func(t *testing.T) {
		r := g.call("POST", "/v1/chat/completions", chatBody("tiny", false), "x-logos-proxy: true", "x-logos-profile: course")
		if r.status != 200 {
			t.Fatalf("answer %v", r)
		}
		said := reported(t, r)
		g.checkTokens(t, r.id(), said.prompt, said.completion)
	})
}

// checkCalls makes calls of every API, and compares each record with what llama.cpp itself reported.
func checkCalls(t *testing.T, g *gateway) {
	var cached int64
	const messages = `"model":"tiny","max_tokens":9,"messages":[{"role":"user","content":"Say something."}]`
	for _, call := range []struct{ name, path, body, model string }{
		{"chat", "/v1/chat/completions", `{` + messages + `}`, "tiny"},
		{"chat, streamed", "/v1/chat/completions", `{` + messages + `,"stream":true}`, "tiny"},
		{"completions", "/v1/completions", `{"model":"tiny","prompt":"Grüß Gott","max_tokens":5}`, "tiny"},
		{"completions, streamed", "/v1/completions", `{"model":"tiny","prompt":"Grüß Gott","stream":true}`, "tiny"},
		{"responses", "/v1/responses", `{"model":"tiny","input":"Say something."}`, "tiny"},
		{"responses, streamed", "/v1/responses", `{"model":"tiny","input":"Say something.","stream":true}`, "tiny"},
		{"messages", "/v1/messages", `{` + messages + `}`, "tiny"},
		{"messages, streamed", "/v1/messages", `{` + messages + `,"stream":true}`, "tiny"},
		{"embeddings", "/v1/embeddings", `{"model":"tiny-embeddings","input":["one","two"]}`, "tiny-embeddings"},
		{"Azure's path", "/openai/deployments/tiny/chat/completions?api-version=2024-10-21", `{"messages":[]}`, "tiny"},
	} {
		t.Run(call.name, func(t *testing.T) {
			r := g.call("POST", call.path, call.body, "authorization:", "logos_key: "+g.root)
			if r.status != 200 || r.err != nil || r.header.Get("x-logos-model") != call.model {
				t.Fatalf("answer %v, %v with %v", r, r.err, r.header)
			}
			if streamed := strings.HasPrefix(r.header.Get("content-type"), "text/event-stream"); streamed != strings.Contains(call.body, `"stream":true`) {
				t.Errorf("content type %q", r.header.Get("content-type"))
			}
			said := reported(t, r)
			g.checkTokens(t, r.id(), said.prompt, said.completion)
			if call.path != "/v1/embeddings" && said.completion == 0 {
				t.Errorf("the model said nothing: %s", r.body)
			}
			if m := g.record(r.id()).totals(t); m["cached_input"] != said.cached {
				t.Errorf("%d cached tokens are on record, the answer says %d", m["cached_input"], said.cached)
			}
			cached += said.cached
		})
	}
	if cached == 0 {
		t.Error("llama.cpp took nothing from its cache")
	}
}

// tokens is what an answer itself reports.
type tokens struct{ prompt, cached, completion int64 }

// reported reads the usage in an answer, or in the events of one, without any code of the product.
func reported(t *testing.T, r *reply) tokens {
	t.Helper()
	type use struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
		Input      int64 `json:"input_tokens"`
		Output     int64 `json:"output_tokens"`
		CacheRead  int64 `json:"cache_read_input_tokens"`
		Details    struct {
			Cached int64 `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
		InputDetails struct {
			Cached int64 `json:"cached_tokens"`
		} `json:"input_tokens_details"`
	}
	var out tokens
	for line := range strings.Lines(string(r.body)) {
		var event struct {
			Usage             use
			Response, Message struct{ Usage use }
		}
		if json.Unmarshal([]byte(strings.TrimPrefix(line, "data: ")), &event) != nil {
			continue // not an object: an event's name, or the last line
		}
		for _, u := range []use{event.Usage, event.Response.Usage, event.Message.Usage} {
			out.prompt = max(out.prompt, u.Prompt, u.Input+u.CacheRead)
			out.cached = max(out.cached, u.CacheRead, u.Details.Cached, u.InputDetails.Cached)
			out.completion = max(out.completion, u.Completion, u.Output)
		}
	}
	return out
}
