package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// command runs another command of the program against the gateway's admin port.
func (g *gateway) command(env map[string]string, args ...string) (out string, err error) {
	cmd := exec.CommandContext(g.t.Context(), binary, args...)
	cmd.Env = append(withoutOwn(os.Environ()), "LOGOS_ADMIN_URL=http://"+g.admin, "LOGOS_API_KEY="+g.root)
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var text, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &errs
	err = cmd.Run()
	return text.String() + errs.String(), err
}

const declared = `
settings: {egress_cidrs: [127.0.0.0/8], claim_lifetime: 3600s, unknown_line_retention_days: 7}
teams:
  - {name: physics, member_key_limit: 2, labels: {tier: gold}}
projects:
  - {name: course, team: physics}
members:
  - {email: ada@example.org, name: Ada, team: physics, role: team_owner}
providers:
  - {name: local, base_url: "PROVIDER/v1", privacy_zone: local}
credentials:
  - {name: main, provider: local, secret: {env: PROVIDER_KEY}}
models:
  - {name: tiny, capabilities: [tools], context_window: 4096, max_output_tokens: 1024, quality: 0.5}
deployments:
  - {model: tiny, provider: local, credential: main, provider_model: tiny-v1, include_usage: false}
access_profiles:
  - {name: default, project: course, models: [tiny], grants: [{provider: local, credential: main}]}
api_keys:
  - {name: app, project: course, access_profile: default, secret: {env: APP_KEY}, scopes: {apis: [chat], models: [tiny]}}
`

// What one gateway exports makes another one the same, and a key that was declared calls the model that was
// declared.
func TestAppliesWhatIsDeclaredAndExportsIt(t *testing.T) {
	t.Parallel()
	p := plain(t, usage{input: 3, output: 4})
	one := start(t, nil)
	one.setup("first", p.URL+"/v1")
	file := filepath.Join(t.TempDir(), "logos.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.ReplaceAll(declared, "PROVIDER/", p.URL+"/"))
	if out, err := one.command(map[string]string{"APP_KEY": "sk-of-another-gateway-0001"}, "apply", "-f", file); err == nil || !strings.Contains(out, "PROVIDER_KEY") {
		t.Fatalf("a new credential without its secret gives %v:\n%s", err, out)
	}
	secrets := map[string]string{"APP_KEY": "sk-of-another-gateway-0001", "PROVIDER_KEY": "sk-provider"}
	plan, err := one.command(secrets, "apply", "-f", file, "--dry-run")
	if err != nil || !strings.Contains(plan, "+ deployment local/tiny/") || strings.Contains(plan, "sk-") {
		t.Fatalf("the plan is %v:\n%s", err, plan)
	}
	if out, err := one.command(secrets, "apply", "-f", file); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if out, err := one.command(secrets, "apply", "-f", file); err != nil || !strings.Contains(out, "Nothing to change.") {
		t.Errorf("applied again it gives %v:\n%s", err, out)
	}
	one.calls("sk-of-another-gateway-0001")

	exported, err := one.command(nil, "export")
	if err != nil || strings.Contains(exported, "sk-") {
		t.Fatalf("the export gives %v:\n%s", err, exported)
	}
	two := start(t, nil)
	two.setup("first", p.URL+"/v1")
	write(exported)
	secrets = map[string]string{"LOGOS_SECRET_COURSE_APP": "sk-of-another-gateway-0001", "LOGOS_SECRET_LOCAL_MAIN": "sk-provider"}
	if out, err := two.command(secrets, "apply", "-f", file); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	again, err := two.command(nil, "export")
	if diff := cmp.Diff(exported, again); diff != "" || err != nil {
		t.Errorf("the second gateway differs, %v (-first +second):\n%s", err, diff)
	}
	two.calls("sk-of-another-gateway-0001")
}

// calls makes a call with a key, which must be answered.
func (g *gateway) calls(key string) {
	g.t.Helper()
	if a := g.chat("tiny", "authorization: Bearer "+key); a.status != 200 {
		g.t.Errorf("a call with the key gives %v", a)
	}
}
