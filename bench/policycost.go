package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	what := shapes()[0].call(p.side, newMock(0))
	var without, with []round
	var differences []time.Duration
	for n := range 2*o.rounds + 1 {
		var medians [2]time.Duration
		for i := range 2 {
			on := (i + n) % 2
			r, err := p.underPolicies(ctx, what, on == 1, o)
			if err != nil {
				return "", err
			}
			if n == 0 {
				continue // everything once, and not counted
			}
			if on == 1 {
				with = append(with, r)
			} else {
				without = append(without, r)
			}
			medians[on] = time.Duration(quantile(0.5, whole)([]round{r}) * float64(time.Millisecond))
		}
		if n > 0 {
			differences = append(differences, medians[1]-medians[0])
		}
	}
	slices.Sort(differences)
	middle := differences[len(differences)/2]
	holds := "holds"
	if middle > policyAim {
		holds = "does **not** hold"
	}
	return fmt.Sprintf("Policies (two, with five CEL clauses and an objective, among %d deployments; 1 KB prompt, 1 connection): p50 %.3f ms without, %.3f ms with; "+
		"the median difference of %d pairs of rounds is %v (%v to %v); the aim of %v %s.", policyDeployments,
		quantile(0.5, whole)(without), quantile(0.5, whole)(with), len(differences), middle.Round(time.Microsecond),
		differences[0].Round(time.Microsecond), differences[len(differences)-1].Round(time.Microsecond), policyAim, holds), nil
}

// underPolicies measures a round with or without policies.
func (p *product) underPolicies(ctx context.Context, what *call, on bool, o options) (r round, err error) {
	if on {
		for _, policy := range costPolicies {
			made, failed := p.administer(ctx, "POST", "policies", policy)
			if failed != nil {
				return r, failed
			}
			defer func() {
				_, failed := p.administer(ctx, "DELETE", "policies/"+made["id"].(string), nil)
				err = errors.Join(err, failed)
			}()
		}
	}
	return p.run(ctx, what, 1, min(o.round, time.Second), 0)
}

// administer makes a call of the admin API, which answers when the change is in force.
func (p *product) administer(ctx context.Context, method, path string, body any) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.admin+"/admin/v1/"+path, bytes.NewReader(encoded))
	if err != nil {
		return nil, err
	}
	if body == nil {
		req.Body, req.ContentLength = nil, 0
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, text)
	}
	var answer map[string]any
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	return answer, err
}
