package e2e_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// administer makes a call of the admin API with the root key, which must be answered.
func (g *gateway) administer(method, path string, body object) object {
	g.t.Helper()
	return g.adminCall(g.root, method, "/admin/v1/"+path, body)
}

// key makes a key of the root key's project, and returns its id and its secret.
func (g *gateway) key(k object) (id, secret string) {
	g.t.Helper()
	k["project"] = "default"
	made := g.administer("POST", "apiKeys", k)
	if secret, _ = made["secret"].(string); secret == "" {
		secret, _ = k["secret"].(string) // brought along
	}
	return made["id"].(string), secret
}

// expect makes a chat call, which must be answered with the status and error code; code "": an answer.
func (g *gateway) expect(what, model string, status int, code string, headers ...string) {
	g.t.Helper()
	if r := g.chat(model, headers...); r.status != status || r.code() != code {
		g.t.Errorf("%s: %v; want %d %s", what, r, status, code)
	}
}

func bearer(secret string) string { return "authorization: Bearer " + secret }

func TestKeysAreHeldToTheirScopes(t *testing.T) {
	p := newProvider(t, everyAPI)
	g := start(t, nil)
	g.deploy("one", "", p.openai("p"))
	g.deploy("two", "", p.openai("p"))
	_, key := g.key(object{"scopes": object{"apis": []string{"chat", "models"}, "models": []string{"two"}}})
	g.expect("its model", "two", 200, "", bearer(key))
	g.expect("another model", "one", 403, "model_not_allowed", bearer(key))
	if r := g.chat("auto", bearer(key)); r.status != 200 || r.header.Get("x-logos-model") != "two" {
		t.Errorf("any model: %v", r)
	}
	if r := g.call("GET", "/v1/models", "", bearer(key)); r.status != 200 || !strings.Contains(string(r.body), `"two"`) || strings.Contains(string(r.body), `"one"`) {
		t.Errorf("models: %v", r)
	}
	r := g.call("POST", "/v1/embeddings", `{"model":"two","input":"x"}`, bearer(key))
	if r.status != 403 || r.code() != "api_not_allowed" || !strings.Contains(string(r.body), "chat, models") {
		t.Errorf("another API: %v", r)
	}
	g.expect("pass-through", "two", 403, "api_not_allowed", bearer(key), "x-logos-proxy: true", "x-logos-profile: for two")
	if rec := g.record(r.id()); rec.EndReason != "refused" || rec.Error == nil || rec.Error.Code != "api_not_allowed" {
		t.Errorf("the refusal is recorded as %+v", rec)
	}
	_, viewer := g.key(object{"role": "viewer"})
	g.expect("a viewer", "two", 403, "role_not_allowed", bearer(viewer))
	asked := len(p.requests())
	_, proxy := g.key(object{"scopes": object{"apis": []string{"passthrough"}, "models": []string{"two"}}})
	g.expect("pass-through of another model", "one", 403, "model_not_allowed", bearer(proxy), "x-logos-proxy: true", "x-logos-profile: for two")
	g.expect("pass-through of a profile without its model", "one", 403, "model_not_allowed", bearer(proxy), "x-logos-proxy: true", "x-logos-profile: for one")
	g.expect("pass-through of its model", "two", 200, "", bearer(proxy), "x-logos-proxy: true", "x-logos-profile: for two")
	if n := len(p.requests()) - asked; n != 1 {
		t.Errorf("%d of three calls reached the provider", n)
	}
}

// from makes a client that calls from an address of this machine.
func from(t *testing.T, address string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// callFrom makes a chat call from an address of this machine, to the gateway or a proxy before it.
func (g *gateway) callFrom(address, base, key string, headers ...string) *reply {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), "POST", base+"/v1/chat/completions", strings.NewReader(chatBody("m", false)))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("authorization", "Bearer "+key)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := from(g.t, address).Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return readReply(resp)
}

const otherAddress = "127.0.0.3"

// spoofs holds ways in which a caller may claim another address.
func spoofs(address string) [][]string {
	return [][]string{
		nil, {"x-forwarded-for: " + address}, {"x-forwarded-for: " + address + ", " + address}, {"x-forwarded-for: " + address, "x-forwarded-for: " + address},
		{"x-real-ip: " + address}, {"forwarded: for=" + address}, {"x-logos-source: " + address}, {"x-envoy-external-address: " + address},
		{"x-forwarded-for: " + address + ","}, {"x-forwarded-for: " + address + ", unknown"}, {"x-forwarded-for: ::ffff:" + address},
	}
}

func TestAKeyWorksFromItsSourcesAlone(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	_, key := g.key(object{"scopes": object{"source_cidrs": []string{"127.0.0.2/32"}}})
	for _, headers := range spoofs(otherAddress) {
		if r := g.callFrom("127.0.0.2", "http://"+g.data, key, headers...); r.status != 200 {
			t.Errorf("from its source, with %q: %v", headers, r)
		}
	}
	for _, headers := range spoofs("127.0.0.2") {
		r := g.callFrom(otherAddress, "http://"+g.data, key, headers...)
		if r.status != 403 || r.code() != "source_not_allowed" || !strings.Contains(string(r.body), otherAddress) || !strings.Contains(string(r.body), "127.0.0.2/32") {
			t.Errorf("from elsewhere, with %q: %v", headers, r)
		}
	}
	p.mustNotHold(t, "127.0.0.2", otherAddress, "x-logos")
}

func TestBehindATrustedProxyTheCallersAddressCounts(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, map[string]string{"LOGOS_TRUSTED_HOPS": "1"})
	g.deploy("m", "", p.openai("p"))
	target, err := url.Parse("http://" + g.data)
	if err != nil {
		t.Fatal(err)
	}
	// Like nginx with $proxy_add_x_forwarded_for, it appends the address of who called it.
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(target))
	t.Cleanup(proxy.Close)
	_, key := g.key(object{"scopes": object{"source_cidrs": []string{"127.0.0.2/32"}}})
	for _, headers := range spoofs(otherAddress) {
		if r := g.callFrom("127.0.0.2", proxy.URL, key, headers...); r.status != 200 {
			t.Errorf("from its source, with %q: %v", headers, r)
		}
	}
	for _, headers := range spoofs("127.0.0.2") {
		r := g.callFrom(otherAddress, proxy.URL, key, headers...)
		if r.status != 403 || r.code() != "source_not_allowed" || !strings.Contains(string(r.body), otherAddress) {
			t.Errorf("from elsewhere, with %q: %v", headers, r)
		}
	}
	// Where no proxy says anything, the peer counts.
	if r := g.callFrom(otherAddress, "http://"+g.data, key); r.status != 403 || r.code() != "source_not_allowed" {
		t.Errorf("past the proxy: %v", r)
	}
	p.mustNotHold(t, "127.0.0.2", otherAddress, "x-forwarded", "x-logos")
}

func TestAClientOfAnotherGatewayNeedsNoChange(t *testing.T) {
	p := newProvider(t, everyAPI)
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	const secret = "sk-litellm-1234567890abcdef"
	id, _ := g.key(object{"secret": secret})
	var got struct {
		Calls map[string]sdkCall
	}
	runPython(t, &got, "use_key.py", "http://"+g.data, secret, "m")
	g.checkSDKCalls(t, got.Calls, "openai", "anthropic")
	g.eventually("note of its last use", waitLong, func() bool {
		return g.scalar("select count(*) from api_keys where id = $1 and last_used_at > now() - interval '3 minutes'", id) == 1
	})
	g.expect("one that was not imported", "m", 401, "missing_api_key", bearer(secret+"x"))
	// Passed through, the key stays here, and the caller's own credential goes on.
	before := len(p.requests())
	r := g.call("POST", "/v1/anything", `{"model":"m"}`, bearer(secret), "api-key: sk-of-the-caller", "x-logos-proxy: true", "x-logos-provider: p")
	if a := p.requests(); r.status != 200 || len(a) != before+1 || a[before].header.Get("authorization") != "" || a[before].header.Get("api-key") != "sk-of-the-caller" {
		t.Errorf("passed through: %v; asked %+v", r, a[before:])
	}
	p.mustNotHold(t, secret)
}

func TestARotatedKeyWorksByBothSecretsForAWhile(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	id, first := g.key(object{})
	rotate := func(overlap time.Duration) string {
		return g.administer("POST", "apiKeys/"+id+":rotate", object{"overlap": fmt.Sprintf("%ds", int(overlap.Seconds()))})["secret"].(string)
	}
	second := rotate(time.Hour)
	g.expect("the old secret in the overlap", "m", 200, "", bearer(first))
	g.expect("the new one", "m", 200, "", bearer(second))
	third := rotate(2 * time.Second)
	g.expect("the oldest", "m", 401, "invalid_api_key", bearer(first))
	g.expect("the newest", "m", 200, "", bearer(third))
	g.eventually("end of the overlap", waitLong, func() bool { return g.chat("m", bearer(second)).code() == "expired_api_key" })
	g.expect("the newest", "m", 200, "", bearer(third))
}

func TestARevokedKeyWorksNoMore(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	id, secret := g.key(object{})
	g.expect("before", "m", 200, "", bearer(secret))
	g.administer("POST", "apiKeys/"+id+":revoke", object{})
	g.expect("after", "m", 401, "revoked_api_key", bearer(secret))
	g.administer("DELETE", "apiKeys/"+id, object{})
	g.expect("deleted", "m", 401, "invalid_api_key", bearer(secret))
}
