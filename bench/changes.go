package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// measuredChanges is how many deployments are added one after another.
const measuredChanges = 100

// measureChanges adds deployments, each a new cluster in Envoy, and says how long each took from the
// request until the answer: the admin API answers when Envoy has warmed the cluster and decisions use it.
func (p *product) measureChanges(ctx context.Context) (string, error) {
	type m = map[string]any
	var took []time.Duration
	for n := range measuredChanges {
		model, err := p.post(ctx, "add_model", m{"logos_key": p.key, "name": fmt.Sprintf("changed-%d", n), "endpoint": "chat/completions"})
		if err != nil {
			return "", err
		}
		if _, err := p.post(ctx, "connect_process_model", m{"logos_key": p.key, "profile_id": p.profile, "model_id": model["model_id"]}); err != nil {
			return "", err
		}
		begin := time.Now()
		if _, err := p.post(ctx, "connect_model_provider", m{"logos_key": p.key, "model_id": model["model_id"], "provider_id": p.providerID}); err != nil {
			return "", err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(100 * time.Microsecond) }
	return fmt.Sprintf("A deployment added by the admin API was in force in Envoy and in decisions after %v (p50), %v (p99), of %d.", at(0.5), at(0.99), len(took)), nil
}
