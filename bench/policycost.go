package main

import (
	"context"
	"fmt"
	"time"
)

// policyDeployments is among how many deployments policies choose.
const policyDeployments = 10

// What policies may add to the median latency of a call.
const policyAim = 30 * time.Microsecond

// costPolicies demand, score and have five clauses in CEL, on two levels.
var costPolicies = []map[string]any{
	{
		"name": "bench-1", "level": "installation", "when": `request.api == "chat"`,
		"constraints": map[string]any{"max_privacy_zone": "anywhere", "require_used": true},
		"rules": []map[string]any{
			{"name": "one", "require": `candidate.load < 1000.0`},
			{"name": "two", "when": `request.input_tokens > 10`, "require": `candidate.provider != "elsewhere" || !request.tools`},
		},
		"objective": map[string]any{"cost": 1, "latency": 2, "load": 1, "hysteresis": 0.05, "exploration": 0.01},
	},
	{
		"name": "bench-2", "level": "project", "project": "default",
		"rules": []map[string]any{
			{"name": "three", "kind": "preference", "require": `!("law" in request.keywords) || candidate.zone == "local"`},
			{"name": "four", "require": `candidate.dialect in ["openai", "openai-compatible"]`},
		},
	},
}

// measurePolicies compares calls under policies with calls under none, in turn, at one connection.
func (p *product) measurePolicies(ctx context.Context, o options) (string, error) {
	for i := 1; i < policyDeployments; i++ {
		if _, err := p.administer(ctx, "POST", "deployments", map[string]any{"name": fmt.Sprint("bench-", i), "model": modelName, "provider_id": p.providerID}); err != nil {
			return "", err
		}
	}
	c, err := p.compare(ctx, o, "policies", costPolicies)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Policies (two, with five CEL clauses and an objective, among %d deployments; 1 KB prompt, 1 connection): %s", policyDeployments, c.verdict(policyAim)), nil
}
