package e2e_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestWhatEnvoyRefusesLeavesTheRestInForce(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, map[string]string{"LOGOS_CA_FILE": "/nonexistent/roots.pem"})
	g.deploy("good", "", p.openai("good"))
	g.connect("bad", "", target{"bad", "https://127.0.0.1:9/v1", "k", "authorization", "Bearer {}"})
	g.eventually("refusal by Envoy", waitLong, func() bool { return g.metric("logos_xds_nacks_total") > 0 })
	if r := g.chat("good"); r.status != 200 {
		t.Errorf("a call of what was there before: %v", r)
	}
	if r := g.chat("bad"); r.status != 503 || r.code() != "no_deployment" || !strings.Contains(string(r.body), "not_active") {
		t.Errorf("a call of what Envoy refused: %v", r)
	}
	resp, err := http.Get("http://" + g.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || !strings.Contains(string(body), "refused") {
		t.Errorf("readyz: %d %s", resp.StatusCode, body)
	}
	before := g.metric("logos_xds_nacks_total")
	later := p.openai("later")
	g.connect("later", "", later)
	g.eventually("a deployment added later", waitLong, func() bool { return g.chat("later").status == 200 })
	// Each of the pushes may be refused; sent over and over, it would be hundreds.
	if n := g.metric("logos_xds_nacks_total") - before; n > 20 {
		t.Errorf("Envoy refused the same %v times more", n)
	}
}

func TestProviderWhoseNameDoesNotResolve(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, nil)
	g.deploy("m", "", target{"nowhere", "http://no-such-host.invalid/v1", "k", "authorization", "Bearer {}"}, p.openai("ok"))
	if r := g.chat("m"); r.status != 200 || r.header.Get("x-logos-provider") != "ok" {
		t.Errorf("answer %v", r)
	}
}

func TestSetupCallsOnTheDataPlane(t *testing.T) {
	p := plain(t, usage{input: 1, output: 1})
	g := start(t, map[string]string{"LOGOS_LOGOSDB_ON_DATA_PLANE": "true"})
	onData := func(name, body string) *reply {
		return g.call("POST", "/logosdb/"+name, body, "authorization:")
	}
	if r := onData("setup", `{"provider_name":"x","base_url":"http://127.0.0.1:9"}`); r.status != 403 {
		t.Errorf("setup without the token: %v", r)
	}
	g.deploy("m", "", p.openai("p"))
	if r := onData("get_process_id", `{"logos_key":"`+g.root+`"}`); r.status != 200 || r.json()["result"] == nil {
		t.Errorf("get_process_id: %v", r)
	}
	if r := onData("get_process_id", `{"logos_key":"lg-wrong"}`); r.status != 401 {
		t.Errorf("get_process_id with a wrong key: %v", r)
	}
	if r := g.chat("m"); r.status != 200 {
		t.Errorf("a call: %v", r)
	}
	other := start(t, nil)
	other.setup("p", p.URL)
	if r := other.call("POST", "/logosdb/get_process_id", `{"logos_key":"`+other.root+`"}`); r.status == 200 && r.json()["result"] != nil {
		t.Errorf("it is there without being switched on: %v", r)
	}
}
