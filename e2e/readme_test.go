package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeStepsAsTyped runs README's steps in a shell, beside the demo as `make up` leaves it. Only
// addresses and the provider's key are others.
func TestReadmeStepsAsTyped(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	script, steps := "", strings.Split(string(text), "```sh\n")
	if len(steps) != 6 {
		t.Fatal("README has not the steps of the set-up calls, the admin API, prices, budgets and a policy")
	}
	for _, rest := range steps[1:] {
		block, _, _ := strings.Cut(rest, "```")
		script += block
	}
	g := newGateway(t, nil)
	g.up()
	g.waitReady()
	for was, is := range map[string]string{
		"http://127.0.0.1:8081": "http://" + g.admin, "http://127.0.0.1:8080": "http://" + g.data,
		"http://127.0.0.1:9000": startLlama(t, "text"), "sk-local": llamaKey,
		"bin/logos": binary,
	} {
		if !strings.Contains(script, was) {
			t.Errorf("README's steps do not name %s", was)
		}
		script = strings.ReplaceAll(script, was, is)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-eu", "-o", "pipefail", "-c", script)
	cmd.Env = append(withoutOwn(os.Environ()), "LOGOS_ADMIN_URL=http://"+g.admin)
	wrong := regexp.MustCompile(`"code":\s*["0-9]`) // the admin API's errors have numbers
	var answers strings.Builder
	cmd.Stderr = &answers
	out, err := cmd.Output()
	if err != nil || wrong.Match(out) || strings.Count(string(out), `"choices"`) != 2 {
		t.Errorf("%v: %s\n%s", err, out, &answers)
	}
	for _, want := range []string{
		`"usage"`, `"silver"`, "nothing to do", "local/tiny/ has no price of input and output", "+ price local/output", "+ price local/tiny/input",
		`"ok":true`, `"thresholds":[80]`, `"counters":[]`, `"targets":[{"deployment_id":"2"`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing: %s\n%s", want, out, &answers)
		}
	}
}

func TestTheDemoWorksAsAnnounced(t *testing.T) {
	g := newGateway(t, nil)
	g.up()
	g.eventually("the announcement", waitLong, func() bool {
		text, _ := os.ReadFile(g.output.Name())
		return strings.Contains(string(text), "Ctrl-C stops everything")
	})
	text, err := os.ReadFile(g.output.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if command := strings.TrimSpace(line); strings.HasPrefix(command, "curl -i ") {
			out, err := exec.CommandContext(t.Context(), "bash", "-c", strings.Replace(command, "curl -i", "curl -s", 1)).Output()
			if err != nil || !strings.Contains(string(out), "demo provider of Logos") {
				t.Errorf("%s: %v %s", command, err, out)
			}
			return
		}
	}
	t.Error("no curl line is printed")
}

// README's policies can be applied as they stand, and do what is said beside them.
func TestReadmePoliciesAsWritten(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n# logos apply -f policies.yaml")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("README has no policies")
	}
	g := start(t, nil)
	at := map[string]*provider{"home": plain(t, usage{input: 1, output: 1}), "abroad": plain(t, usage{input: 1, output: 1})}
	g.deploy("m", "", at["abroad"].openai("abroad"), at["home"].openai("home"))
	file := filepath.Join(t.TempDir(), "policies.yaml")
	block = "#" + block + "providers:\n  - {name: home, base_url: \"" + at["home"].URL + "/v1\", privacy_zone: local}\n  - {name: abroad, base_url: \"" + at["abroad"].URL + "/v1\", privacy_zone: eu_us}\n"
	block = strings.Replace(block, "settings:\n", "settings:\n  egress_cidrs: [127.0.0.0/8]\n", 1)
	if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := g.command(nil, "apply", "-f", file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	says := func(model, text string) *reply {
		return g.call("POST", "/v1/chat/completions", `{"model":"`+model+`","messages":[{"role":"user","content":"`+text+`"}]}`)
	}
	if r := says("m", "hello"); r.status != 200 || r.header.Get("x-logos-provider") != "abroad" {
		t.Errorf("an ordinary call: %v", r)
	}
	if r := says("m", "my salary"); r.status != 200 || r.header.Get("x-logos-provider") != "home" {
		t.Errorf("a personal call: %v", r)
	}
	if r := says("quick", "hello"); r.status != 403 || !strings.Contains(string(r.body), "max_cost") {
		t.Errorf("a quick call among what has no price: %v", r)
	}
	if out, err := g.command(nil, "prices", "set", "--provider", "home", "--currency", "EUR", "--input", "0", "--output", "0"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r := says("quick", "hello"); r.status != 200 || r.header.Get("x-logos-provider") != "home" {
		t.Errorf("a quick call: %v", r)
	}
}
