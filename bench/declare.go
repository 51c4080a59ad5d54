package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// prepareSelection declares the scenario: a model at each vendor, with its price, and a policy for each sort of
// call. It returns when every vendor has answered a call.
func (p *product) prepareSelection(ctx context.Context, o options, all []*vendor) error {
	if err := p.ready(ctx); err != nil {
		return err
	}
	answer, err := p.post(ctx, "setup", map[string]any{"base_url": "http://" + all[0].address + "/v1", "provider_name": "set-up"})
	if err != nil {
		return err
	}
	root, _ := answer["logos-key"].(string)
	p.key = root
	file := filepath.Join(p.dir, "scenario.yaml")
	if err := os.WriteFile(file, []byte(scenario(all)), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, o.logos, "apply", "-f", file)
	cmd.Env = append(cleanEnvironment(), "LOGOS_ADMIN_URL=http://"+p.admin, "LOGOS_API_KEY="+root, "APP_KEY="+scenarioKey)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply the scenario: %w: %s", err, out)
	}
	p.key = scenarioKey
	for _, v := range all {
		err := poll(ctx, 20*time.Second, 50*time.Millisecond, func() error {
			o := p.callAs(ctx, v.name, all)
			if o.by != nil && o.by != v {
				o.err = errors.New("another vendor answered")
			}
			return o.err
		})
		if err != nil {
			return fmt.Errorf("a first answer of %s: %w", v.name, err)
		}
	}
	return nil
}

const scenarioKey = "sk-of-the-scenario-0001"

// scenarioPolicies has a policy for each sort of call. Each goes a little to what was not measured lately, so that
// a vendor that is well again is found.
const scenarioPolicies = `
policies:
  - name: private
    level: project
    project: scenario
    on_request: true
    constraints: {max_privacy_zone: local}
  - name: quick
    level: project
    project: scenario
    on_request: true
    constraints: {max_time_to_first_token: 0.4s}
    objective: {latency: 3, cost: 1, latency_scale: 0.1s, cost_scale: {amount: "0.002", currency: USD}, hysteresis: 0.02, exploration: 0.02}
    attempts: {first_token: 0.25s}
  - name: frugal
    level: project
    project: scenario
    on_request: true
    constraints: {max_cost: [{amount: "0.001", currency: USD}]}
    objective: {cost: 1, cost_scale: {amount: "0.0005", currency: USD}, hysteresis: 0.02}
  - name: good
    level: project
    project: scenario
    on_request: true
    constraints: {min_quality: 0.8}
    objective: {latency: 2, cost: 1, latency_scale: 0.1s, cost_scale: {amount: "0.002", currency: USD}, hysteresis: 0.02, exploration: 0.02}
`

// scenario is a declaration for `logos apply`.
func scenario(all []*vendor) string {
	var b, names, grants strings.Builder
	list := func(section string, item func(*vendor) string) {
		b.WriteString(section + ":\n")
		for _, v := range all {
			b.WriteString("  - " + item(v) + "\n")
		}
	}
	b.WriteString("settings: {egress_cidrs: [127.0.0.0/8]}\nprojects:\n  - {name: scenario}\n")
	list("providers", func(v *vendor) string {
		return fmt.Sprintf("{name: %s, base_url: \"http://%s/v1\", dialect: openai-compatible, auth_header: none, privacy_zone: %s}", v.name, v.address, v.zone)
	})
	list("models", func(v *vendor) string {
		return fmt.Sprintf("{name: %s, quality: %g}", v.name, v.quality)
	})
	list("deployments", func(v *vendor) string { return fmt.Sprintf("{model: %s, provider: %s}", v.name, v.name) })
	list("credentials", func(v *vendor) string {
		names.WriteString(v.name + ", ")
		fmt.Fprintf(&grants, "{provider: %s, credential: none}, ", v.name)
		return fmt.Sprintf("{name: none, provider: %s, secret: {env: APP_KEY}}", v.name)
	})
	fmt.Fprintf(&b, "access_profiles:\n  - {name: default, project: scenario, models: [%s], grants: [%s]}\n", strings.TrimSuffix(names.String(), ", "), strings.TrimSuffix(grants.String(), ", "))
	b.WriteString("api_keys:\n  - {name: app, project: scenario, secret: {env: APP_KEY}}\n")
	b.WriteString("prices:\n")
	for _, v := range all {
		for meter, amount := range map[string]float64{"input": v.input, "output": v.output} {
			fmt.Fprintf(&b, "  - {provider: %s, model: %s, meter: %s, amount: \"%g\", currency: USD}\n", v.name, v.name, meter, amount)
		}
	}
	return b.String() + scenarioPolicies
}
