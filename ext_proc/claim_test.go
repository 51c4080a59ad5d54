package extproc_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// offers is what knows of targets that each fail, and may each be tried by one call.
type offers struct {
	mu      sync.Mutex
	claimed []logos.DeploymentID
	asked   int
	quicker logos.DeploymentID // another call claims it in between
	lost    bool
}

func (o *offers) state(t *logos.Target, _ int64) policy.State {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	if slices.Contains(o.claimed, t.Deployment.ID) || o.lost && t.Deployment.ID == o.quicker {
		return policy.State{Unhealthy: "breaker_open"}
	}
	return policy.State{Offered: true}
}

func (o *offers) claim(t *logos.Target) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.Deployment.ID == o.quicker {
		o.lost = true
		return false
	}
	o.claimed = append(o.claimed, t.Deployment.ID)
	return true
}

func (o *offers) into(c *extproc.Config) {
	c.State, c.Claim = o.state, o.claim
	c.Peek = func(*logos.Target, int64) policy.State { return policy.State{} }
}

func offered(t *testing.T, o *offers, edit func(*logos.Resources)) []logos.DeploymentID {
	t.Helper()
	g := newGatewayWith(t, config(t, edit), o.into)
	d, _ := g.decisionOf(g.chat(`{"model":"small"}`).last())
	var to []logos.DeploymentID
	for _, x := range d.Targets {
		to = append(to, x.Deployment)
	}
	return to
}

// Else a failing target would stay where it is for good: who may not use it would always be the first to be offered it.
func TestWhatACallMayNotUseItDoesNotTry(t *testing.T) {
	t.Parallel()
	o := &offers{}
	if to := offered(t, o, withPolicies(local)); !slices.Equal(to, []logos.DeploymentID{2}) || !slices.Equal(o.claimed, to) {
		t.Errorf("it goes to %v, and keeps %v from others", to, o.claimed)
	}
}

func TestSeveralProfilesOfACallTryATargetTogether(t *testing.T) {
	t.Parallel()
	o := &offers{}
	to := offered(t, o, func(r *logos.Resources) {
		second := *r.Profiles[0]
		second.ID, second.Name = 5, "second"
		r.Profiles = append(r.Profiles, &second)
		withPolicies(logos.Policy{ID: 1, Level: logos.LevelProfile, Owner: 4, Constraints: local.Constraints})(r)
	})
	if !slices.Equal(to, []logos.DeploymentID{1, 2}) || !slices.Equal(o.claimed, to) {
		t.Errorf("it goes to %v, and keeps %v from others", to, o.claimed)
	}
}

func TestWhoIsTooLateToTryGoesElsewhere(t *testing.T) {
	t.Parallel()
	o := &offers{quicker: 1}
	if to := offered(t, o, nil); !slices.Equal(to, []logos.DeploymentID{2}) {
		t.Errorf("it goes to %v", to)
	}
}

func TestAnExplanationTriesNothing(t *testing.T) {
	t.Parallel()
	o := &offers{}
	g := newGatewayWith(t, config(t, withPolicies(local)), o.into)
	if _, err := g.server.Explain(t.Context(), extproc.ExplainRequest{Key: presentKey(t, g), Path: chat, Body: []byte(`{"model":"small"}`)}); err != nil {
		t.Fatal(err)
	}
	if o.asked+len(o.claimed) > 0 {
		t.Errorf("it asked %d times and kept %v from calls", o.asked, o.claimed)
	}
}
