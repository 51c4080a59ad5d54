package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tried is what a test of a provider answers.
type tried struct {
	OK              bool
	Failed, Message string
	Status          int
	Duration        string
	CallID          string `json:"call_id"`
}

// manage makes a call of the admin API with the root key, and returns its status.
func (g *gateway) manage(path string, body object, into any, headers ...string) int {
	g.t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		g.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, "http://"+g.admin+"/admin/v1/"+path, bytes.NewReader(encoded))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("authorization", "Bearer "+g.root)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		g.t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
	}
	return resp.StatusCode
}

// add adds a provider that no access profile grants, and returns its path in the admin API.
func (g *gateway) add(t target) string {
	g.t.Helper()
	id, _ := g.set("add_provider", object{"provider_name": t.provider, "base_url": t.baseURL, "api_key": t.secret, "auth_name": t.authName, "auth_format": t.authFormat})["provider-id"].(float64)
	return "providers/" + strconv.FormatInt(int64(id), 10)
}

// try tests a provider; there is always a record of a call that was made, on the account of who asked.
func (g *gateway) try(path string, body object, headers ...string) tried {
	g.t.Helper()
	var got tried
	if status := g.manage(path+":test", body, &got, headers...); status != 200 {
		g.t.Fatalf("%s is tested with status %d", path, status)
	}
	if got.CallID != "" {
		r := g.record(got.CallID)
		if len(r.Attempts) != 1 || "providers/"+strconv.FormatInt(r.Attempts[0].ProviderID, 10) != path {
			g.t.Errorf("the call is on record as %+v", r)
		}
		if n := g.scalar("select count(*) from calls c join api_keys k on k.id = c.api_key_id where c.call_id = $1 and k.role = 'root' and k.project_id = c.project_id", got.CallID); n != 1 {
			g.t.Errorf("the call is not on the account of who asked")
		}
	}
	return got
}

// of is the gateway for a part of the test.
func (g *gateway) of(t *testing.T) *gateway {
	part := *g
	part.t = t
	return &part
}

// A raw server does with connections what HTTP servers don't.
func raw(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

const unknownModel = `{"error":{"message":"The model 'x' does not exist","type":"invalid_request_error","code":"model_not_found"}}`

func answersText(status int, text string) func(*provider, http.ResponseWriter, asked) {
	return func(_ *provider, w http.ResponseWriter, _ asked) {
		w.Header().Set("content-type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func TestAProviderIsTriedUntilSomethingFails(t *testing.T) {
	g := start(t, nil)
	g.setup("first", "http://127.0.0.1:9")
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(tls.Close)
	serve := func(handle func(*provider, http.ResponseWriter, asked)) string { return newProvider(t, handle).URL }
	leak := newProvider(t, func(_ *provider, w http.ResponseWriter, a asked) {
		answerJSON(w, 401, object{"error": object{"message": "Incorrect API key provided: " + a.header.Get("authorization")}})
	})
	for _, c := range []struct {
		name, base, model string
		failed            string
		status            int
		says              string
	}{
		{"nowhere", "http://no-such-host.invalid", "", "dns", 0, "no such host"},
		{"closed", "http://" + freePorts(t, 1)[0], "", "connect", 0, "refused"},
		{"self-signed", tls.URL, "", "tls", 0, "LOGOS_CA_FILE"},
		{"no-tls", strings.Replace(serve(fails(404)), "http:", "https:", 1), "", "tls", 0, "does not speak TLS"},
		{"tls-alone", strings.Replace(tls.URL, "https:", "http:", 1), "", "tls", 400, "write https://"},
		{"wrong-key", leak.URL, "", "auth", 401, "[redacted]"},
		{"forbidden", serve(fails(403)), "", "auth", 403, "auth_header (authorization)"},
		{"no-path", serve(answersText(404, `{"detail":"Not Found"}`)), "", "path", 404, "/v1/models"},
		{"html", serve(answersText(200, `<html>Welcome</html>`)), "", "path", 200, "no list of models"},
		{"html-model", serve(answersText(200, `<html>Welcome</html>`)), "x", "path", 200, "no API of models"},
		{"moved", serve(func(_ *provider, w http.ResponseWriter, _ asked) {
			w.Header().Set("location", "http://169.254.169.254/")
			w.WriteHeader(302)
		}), "", "path", 302, "redirected"},
		{"no-model", serve(answersText(404, unknownModel)), "x", "model", 404, "does not exist"},
		{"model-forbidden", serve(answersText(403, unknownModel)), "x", "model", 403, ""},
		{"model-path", serve(answersText(404, `{"detail":"Not Found"}`)), "x", "path", 404, "/v1/chat/completions"},
		{"busy", serve(fails(429)), "", "rate_limit", 429, "no quota"},
		{"broken", serve(fails(500)), "", "provider", 500, "status 500"},
		{"hangs-up", "http://" + raw(t, func(c net.Conn) { c.Close() }), "", "provider", 0, "no answer in HTTP"},
		{"ssh", "http://" + raw(t, func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n"); c.Close() }), "", "provider", 0, "no answer in HTTP"},
		{"silent", "http://" + raw(t, func(c net.Conn) { t.Cleanup(func() { c.Close() }) }), "", "timeout", 0, "in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := g.of(t)
			path := g.add(target{c.name, c.base, "sk-canary-" + c.name, "authorization", "Bearer {}"})
			body := object{}
			if c.model != "" {
				body["provider_model"] = c.model
			}
			got := g.try(path, body, "Grpc-Timeout: 5S")
			if got.OK || got.Failed != c.failed || got.Status != c.status || !strings.Contains(got.Message, c.says) || (got.CallID == "") != (c.failed == "dns") {
				t.Errorf("it answers %+v, want %s with %d that says %q", got, c.failed, c.status, c.says)
			}
			if strings.Contains(got.Message, "sk-canary") {
				t.Errorf("it tells the credential: %s", got.Message)
			}
		})
	}
}

func TestMetadataAddressesAreNoProviders(t *testing.T) {
	g := start(t, nil)
	g.setup("first", "http://127.0.0.1:9")
	for _, base := range []string{"http://169.254.169.254/latest", "http://[::ffff:169.254.169.254]", "http://[64:ff9b::a9fe:a9fe]", "http://[fd00:ec2::254]", "http://100.100.100.200"} {
		if status, answer := g.trySet("add_provider", object{"provider_name": base, "base_url": base, "api_key": "k", "auth_name": "authorization", "auth_format": "Bearer {}"}); status != 422 || !strings.Contains(answer["error"].(string), "metadata") {
			t.Errorf("%s is answered %d %v", base, status, answer)
		}
	}
	// Not even if it stands in the database.
	path := g.add(target{"turned", "http://127.0.0.1:9", "k", "authorization", "Bearer {}"})
	conn := g.db()
	if _, err := conn.Exec(t.Context(), "with r as (update config_revision set revision = revision + 1 returning revision) update providers set base_url = 'http://169.254.169.254', revision = r.revision from r where name = 'turned'"); err != nil {
		t.Fatal(err)
	}
	g.waitRevision()
	if got := g.try(path, object{}); got.Failed != "allow_list" || !strings.Contains(got.Message, "metadata") || got.CallID != "" {
		t.Errorf("it is tried: %+v", got)
	}
}

func TestWhatIsNotAllowedIsNotCalled(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	if r := g.chat("m"); r.status != 200 {
		t.Fatalf("root's word is not enough: %v", r)
	}
	setEgress := func(sql string) {
		t.Helper()
		conn := g.db()
		if _, err := conn.Exec(t.Context(), "with r as (update config_revision set revision = revision + 1) update settings set "+sql); err != nil {
			t.Fatal(err)
		}
		g.waitRevision()
	}
	setEgress("egress_hosts = '{}'")
	if r := g.chat("m"); r.status != 503 || r.code() != "no_deployment" || !strings.Contains(string(r.body), "host_not_allowed") {
		t.Errorf("a call to where providers are no longer allowed: %v", r)
	}
	if got := g.try("providers/2", object{}); got.Failed != "allow_list" || !strings.Contains(got.Message, "egress_hosts") {
		t.Errorf("it is tried: %+v", got)
	}
	setEgress("egress_cidrs = '{127.0.0.0/8}'")
	g.eventually("a call where a range is allowed", waitLong, func() bool { return g.chat("m").status == 200 })
}

func TestAProviderIsTriedWithItsModels(t *testing.T) {
	g := start(t, nil)
	p := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		switch {
		case a.method == http.MethodGet:
			answerJSON(w, 200, object{"object": "list", "data": []object{{"id": "m"}, {"id": "other"}, {"id": "m"}}})
		default:
			p.answerChat(w, a, usage{input: 3, output: 1}, 1)
		}
	})
	claude := newProvider(t, func(_ *provider, w http.ResponseWriter, a asked) {
		if a.header.Get("anthropic-version") == "" || a.header.Get("x-api-key") != "sk-claude" {
			fails(401)(nil, w, a)
			return
		}
		if a.method == http.MethodPost {
			answerJSON(w, 200, object{"type": "message", "usage": object{"input_tokens": 5, "output_tokens": 1}})
			return
		}
		page := "a"
		if strings.Contains(a.uri, "after_id=a") {
			page = "b"
		}
		answerJSON(w, 200, object{"data": []object{{"id": page, "type": "model"}}, "has_more": page == "a", "last_id": page})
	})
	g.deploy("m", "", p.openai("p"))
	path := g.add(p.openai("p"))
	second := g.add(target{"p", p.URL + "/v1", "sk-second", "authorization", "Bearer {}"})
	if path != second {
		t.Fatalf("two credentials are at %s and %s", path, second)
	}

	got := g.try(path, object{})
	if !got.OK || got.Status != 200 || got.Failed != "" || got.Duration == "" {
		t.Errorf("it answers %+v", got)
	}
	got = g.try(path, object{"provider_model": "m"})
	if rec := g.record(got.CallID); !got.OK || rec.meters() != "input=3 output=1" || rec.EndReason != "ok" || rec.API != "chat" || rec.Model != "m" {
		t.Errorf("it answers %+v, with the record %+v", got, rec)
	}
	var name string
	if err := g.db().QueryRow(t.Context(), "select name from credentials order by id desc limit 1").Scan(&name); err != nil {
		t.Fatal(err)
	}
	g.try(path, object{"credential": name})
	asked := p.requests()
	if last := asked[len(asked)-1]; last.header.Get("authorization") != "Bearer sk-second" || last.uri != "/v1/models" {
		t.Errorf("another credential asks %s with %v", last.uri, last.header)
	}
	p.mustNotHold(t, "x-logos", "x-envoy", g.root)
	var none object
	if status := g.manage(path+":test", object{"credential": "none"}, &none); status != 404 {
		t.Errorf("an unknown credential is answered %d %v", status, none)
	}
	if status := g.manage("providers/999:test", object{}, &none); status != 404 {
		t.Errorf("an unknown provider is answered %d %v", status, none)
	}

	g.mustDiscover(path, "m[1] other[]")
	anthropic := g.add(target{"claude-anthropic", claude.URL, "sk-claude", "x-api-key", "{}"})
	g.mustDiscover(anthropic, "a[] b[]")
	if got := g.try(anthropic, object{"provider_model": "a"}); !got.OK || g.record(got.CallID).meters() != "input=5 output=1" {
		t.Errorf("Anthropic's API answers %+v", got)
	}
	azure := g.add(target{"azure", p.URL, "sk", "api-key", "{}"})
	var refusal struct {
		Message string
		Details []struct{ Reason string }
	}
	if status := g.manage(azure+":discover", object{}, &refusal); status != 501 || refusal.Details[0].Reason != "DISCOVERY_NOT_SUPPORTED" || !strings.Contains(refusal.Message, "portal") {
		t.Errorf("Azure's models are answered %d %+v", status, refusal)
	}
	broken := g.add(newProvider(t, fails(401)).openai("broken"))
	if status := g.manage(broken+":discover", object{}, &refusal); status != 400 || refusal.Details[0].Reason != "PROVIDER_AUTH" {
		t.Errorf("with a wrong key, the models are answered %d %+v", status, refusal)
	}
}

// mustDiscover compares the models that a provider lists, each with its deployments.
func (g *gateway) mustDiscover(path, want string) {
	g.t.Helper()
	var found struct {
		Models []struct {
			ProviderModel string   `json:"provider_model"`
			DeploymentIDs []string `json:"deployment_ids"`
		}
	}
	if status := g.manage(path+":discover", object{}, &found); status != 200 {
		g.t.Errorf("%s lists its models with status %d", path, status)
	}
	var got []string
	for _, m := range found.Models {
		got = append(got, m.ProviderModel+"["+strings.Join(m.DeploymentIDs, " ")+"]")
	}
	slices.Sort(got)
	if strings.Join(got, " ") != want {
		g.t.Errorf("%s has the models %q, want %q", path, got, want)
	}
}

// A ticket is in nobody's reach, and a header of that name gives no rights.
func TestAProbesHeaderGivesNoRights(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	if r := g.call("POST", "/v1/chat/completions", chatBody("m", false), "authorization:", "x-logos-probe: AAAAAAAAAAAAAAAAAAAAAAAAAA"); r.status != 401 {
		t.Errorf("a call without a key: %v", r)
	}
	if r := g.call("POST", "/v1/chat/completions", chatBody("m", false), "x-logos-probe: AAAAAAAAAAAAAAAAAAAAAAAAAA"); r.status != 200 {
		t.Errorf("a call with one: %v", r)
	}
	p.mustNotHold(t, "x-logos-probe")
}

func TestAProviderIsTriedThroughTLS(t *testing.T) {
	cert, key := newAuthority(t).issue(t, t.TempDir(), "data plane")
	g := start(t, map[string]string{"LOGOS_TLS_CERT_FILE": cert, "LOGOS_TLS_KEY_FILE": key})
	p := newProvider(t, answersText(200, `{"data":[]}`))
	g.setup("first", p.URL)
	if got := g.try("providers/1", object{}); !got.OK {
		t.Errorf("it answers %+v", got)
	}
}
