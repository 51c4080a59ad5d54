package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos/api"
)

func TestSetsUpStepByStep(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	provider := object{"provider_name": "azure", "base_url": "https://x.openai.azure.com", "api_key": "sk-1", "auth_name": "API-Key", "auth_format": "{}"}
	for _, c := range []struct {
		call string
		body object
		want object
	}{
		{"add_provider", provider, object{"result": "Created Provider.", "provider-id": 2.0, "api-id": 1.0}},
		{"add_provider", provider, object{"result": "Created Provider.", "provider-id": 2.0, "api-id": 1.0}},
		{"add_model", object{"name": "gpt", "endpoint": "chat/completions"}, object{"result": "Created Model", "model_id": 1.0}},
		{"add_model", object{"name": "local", "endpoint": ""}, object{"result": "Created Model", "model_id": 2.0}},
		{"get_process_id", object{}, object{"result": 1.0}},
		{"add_profile", object{"profile_name": "course", "process_id": 1}, object{"result": "Added profile", "profile-id": 2.0}},
		{"get_api_id", object{"api_key": "sk-1"}, object{"result": "API-ID: 1", "api-id": 1.0}},
		{"connect_process_provider", object{"profile_id": "2", "api_id": 1}, object{"result": "Added connection to api."}},
		{"connect_process_provider", object{"profile_id": 2, "api_id": 1}, object{"result": "Added connection to api."}},
		{"connect_process_model", object{"profile_id": 2, "model_id": 1}, object{"result": "Connected process to model. ID: 1",
			"note": "This is the first model of this process: its calls now go by model. Pass-through stays allowed with the header x-logos-proxy: true."}},
		{"connect_process_model", object{"profile_id": 2, "model_id": 1}, object{"result": "Connected process to model. ID: 1"}},
		{"connect_model_provider", object{"model_id": 1, "provider_id": 2}, object{"result": "Connected Model to Provider. ID: 1."}},
		{"connect_model_provider", object{"model_id": 1, "provider_id": 2}, object{"result": "Connected Model to Provider. ID: 1."}},
		{"connect_model_api", object{"model_id": 1, "api_id": 1}, object{"result": "Added api-connection to model."}},
	} {
		if diff := cmp.Diff(c.want, g.set(c.call, c.body)); diff != "" {
			t.Errorf("%s answers (-want +got):\n%s", c.call, diff)
		}
	}
	config, err := g.store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	profiles := config.Profiles(1)
	if len(profiles) != 2 || len(profiles[1].Candidates[1]) != 1 || !profiles[1].Passthrough || len(profiles[0].Routes) != 1 || profiles[0].Routes[0].Stored != nil {
		t.Fatalf("the profiles are %+v", profiles)
	}
	target := profiles[1].Candidates[1][0].Target
	if target == nil || target.Provider.AuthHeader != "api-key" || target.Provider.Dialect != "azure" || target.Credential.Secret != "sk-1" || target.Deployment.Credential != 1 {
		t.Errorf("the target is %+v", target)
	}
	// Each change was answered when it was in force: one revision for each, in order.
	if n := len(g.inForce); n != 13 || g.inForce[n-1] != config.Revision || g.inForce[0] != 1 {
		t.Errorf("the revisions %v were waited for, want 13 up to %d", g.inForce, config.Revision)
	}
	for _, header := range []string{"logos_key", "logos-key"} {
		r := request("GET", "/logosdb/get_process_id", "")
		r.Header.Set(header, g.root)
		if status, answer := g.do(g.handler, r); status != 200 || answer["result"] != 1.0 {
			t.Errorf("GET with the header %s answers %d %v", header, status, answer)
		}
		r = request("GET", "/logosdb/get_api_id", "")
		r.Header.Set(header, g.root)
		r.Header.Set("api_key", "sk-1")
		if status, answer := g.do(g.handler, r); status != 200 || answer["api-id"] != 1.0 {
			t.Errorf("GET with the header %s answers %d %v", header, status, answer)
		}
	}
}

func TestSetsUpOnce(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	statuses := make([]int, 8)
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() {
			statuses[i], _ = g.do(g.handler, request("POST", "/logosdb/setup", `{"provider_name":"p","base_url":"https://p.example"}`))
		})
	}
	all.Wait()
	count := make(map[int]int)
	for _, s := range statuses {
		count[s]++
	}
	if count[200] != 1 || count[409] != 7 {
		t.Errorf("eight set-ups at once answer %v, want one 200 and 409 to the others", statuses)
	}
	if n := scalar[int](t, g.conn(), "select count(*)::int from api_keys"); n != 1 {
		t.Errorf("there are %d keys", n)
	}
	if done, err := g.store.IsSetUp(t.Context()); !done || err != nil {
		t.Errorf("the gateway is set up: %t, %v", done, err)
	}
	if _, answer := g.try("setup", object{"provider_name": "q", "base_url": "https://q.example"}); !strings.Contains(message(t, answer), "set up already") {
		t.Errorf("a second set-up answers %v", answer)
	}
}

// A base URL that is refused with 422 tells who is let in, without setting anything up.
func TestSetupIsAnsweredToThisMachineAlone(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	const in, out = 422, 403
	with := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	peer := func(address string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = address } }
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		want   int
	}{
		{"as it is", func(*http.Request) {}, in},
		{"peer ::1", peer("[::1]:1"), in},
		{"peer 127.9.9.9", peer("127.9.9.9:1"), in},
		{"peer 127.0.0.1 as IPv6", peer("[::ffff:127.0.0.1]:1"), in},
		{"peer elsewhere", peer("192.0.2.1:1"), out},
		{"peer elsewhere as IPv6", peer("[2001:db8::1]:1"), out},
		{"peer that is no address", peer("@"), out},
		{"no peer", peer(""), out},
		{"host localhost", host("LocalHost:8081"), in},
		{"host ::1", host("[::1]:8081"), in},
		{"host ::1 without a port", host("[::1]"), in},
		{"host 127.0.0.1 without a port", host("127.0.0.1"), in},
		{"host elsewhere", host("attacker.example:8081"), out}, // a name that leads here, as DNS rebinding makes
		{"host that begins well", host("127.0.0.1.attacker.example"), out},
		{"host that begins well again", host("localhost.attacker.example"), out},
		{"host of any address", host("0.0.0.0:8081"), out},
		{"no host", host(""), out},
		{"a page of this machine", with("Origin", "http://localhost:3000"), out},
		{"a page of nobody", with("Origin", "null"), out},
		{"behind a proxy", with("X-Forwarded-For", "127.0.0.1"), out},
		{"behind a proxy with TLS", with("X-Forwarded-Proto", "https"), out},
		{"behind Envoy", with("X-Envoy-External-Address", "192.0.2.1"), out},
		{"behind a modern proxy", with("Forwarded", "for=127.0.0.1"), out},
		{"behind an old proxy", with("Via", "1.1 x"), out},
		{"behind nginx", with("X-Real-IP", "127.0.0.1"), out},
		{"elsewhere with the token", func(r *http.Request) {
			r.RemoteAddr, r.Host = "192.0.2.1:1", "logos.example"
			r.Header.Set("X-Logos-Setup-Token", string(token))
			r.Header.Set("X-Forwarded-For", "192.0.2.9")
		}, in},
		{"elsewhere with another token", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1"; r.Header.Set("X-Logos-Setup-Token", "another") }, out},
		{"elsewhere with an empty token", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1"; r.Header.Set("X-Logos-Setup-Token", "") }, out},
		{"elsewhere with the token as a key", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:1"; r.Header.Set("Logos-Key", string(token)) }, out},
	} {
		r := request("POST", "/logosdb/setup", `{"provider_name":"p","base_url":"ftp://p.example"}`)
		c.change(r)
		if status, answer := g.do(g.handler, r); status != c.want {
			t.Errorf("%s: setup answers %d %v, want %d", c.name, status, answer, c.want)
		} else if strings.Contains(fmt.Sprint(answer), string(token)) {
			t.Errorf("%s: the answer tells the token", c.name)
		}
	}
	r := request("POST", "/logosdb/setup", `{"provider_name":"p","base_url":"ftp://p.example"}`)
	r.RemoteAddr = "192.0.2.1:1"
	r.Header.Set("X-Logos-Setup-Token", "")
	if status, _ := g.do(g.serve("", nil), r); status != out {
		t.Errorf("without a token, an empty one is answered %d", status)
	}
	if done, err := g.store.IsSetUp(t.Context()); done || err != nil {
		t.Errorf("refused calls set the gateway up: %t, %v", done, err)
	}
}

func TestSetupTokensDiffer(t *testing.T) {
	t.Parallel()
	a, b := api.NewSetupToken(), api.NewSetupToken()
	if a == b || len(a) < 32 {
		t.Errorf("tokens are %q and %q", a, b)
	}
}
