// Package policy turns a call into an ordered list of targets, and says of every deployment that it
// considered why it was kept or not. It is pure: configuration and facts in, choice out. It does not
// know Envoy, time or money; ext_proc calls it once a call.
package policy

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// MaxTargets bounds how many targets a call is given, and so its attempts.
const MaxTargets = 3

// The reasons why a deployment is not used.
const (
	NoCredential = "no_credential"  // neither it nor the profile has a credential for its provider
	APINotServed = "api_not_served" // it does not serve the API that was called
	NotActive    = "not_active"     // Envoy has not made its cluster ready yet
	OverLimit    = "over_limit"     // MaxTargets others come first
	// Its provider's host has no address, or none that is allowed.
	HostNotResolved = "host_not_resolved"
	HostNotAllowed  = "host_not_allowed"
)

// Auto is the model name that asks for a choice among all models.
const Auto = "auto"

// A Request is what a choice depends on.
type Request struct {
	API   logos.API
	Model *logos.Model    // nil: any model that the profile may use
	Scope []logos.ModelID // of the key; empty: all
	// Inactive says why a target is not active; nil: [NotActive].
	Inactive func(*logos.Target) string
}

func (r *Request) inScope(id logos.ModelID) bool {
	return len(r.Scope) == 0 || slices.Contains(r.Scope, id)
}

// A Choice is an ordered list of targets, with its explanation.
type Choice struct {
	Targets    []*logos.Target
	Profile    *logos.Access // under which the first target was granted
	Candidates []logos.DecisionCandidate
	Granted    bool // some profile grants the model asked for, and the key's scope has it
}

// Choose orders what the profiles grant, by id of the deployment. Each target is used at most once, and
// only if active says that Envoy is ready for its cluster.
func Choose(profiles []*logos.Access, r Request, active func(cluster string) bool) Choice {
	var c Choice
	var found []granted
	for _, profile := range profiles {
		if r.Model != nil && !r.inScope(r.Model.ID) {
			continue
		}
		if r.Model != nil {
			candidates, ok := profile.Candidates[r.Model.ID]
			c.Granted = c.Granted || ok
			found = appendGranted(found, profile, candidates)
			continue
		}
		for _, id := range profile.Models {
			if !r.inScope(id) {
				continue
			}
			c.Granted = true
			found = appendGranted(found, profile, profile.Candidates[id])
		}
	}
	if len(profiles) > 1 || r.Model == nil {
		slices.SortStableFunc(found, func(x, y granted) int { return cmp.Compare(x.Deployment.ID, y.Deployment.ID) })
	}
	c.Candidates = make([]logos.DecisionCandidate, 0, len(found))
	for _, g := range found {
		if g.Target != nil && slices.Contains(c.Targets, g.Target) {
			continue // granted by another profile too
		}
		reason := excluded(g, r, active)
		if reason == "" && len(c.Targets) == MaxTargets {
			reason = OverLimit
		}
		candidate := logos.DecisionCandidate{Deployment: g.Deployment.ID, Excluded: reason}
		if reason != "" && slices.Contains(c.Candidates, candidate) {
			continue
		}
		c.Candidates = append(c.Candidates, candidate)
		if reason != "" {
			continue
		}
		if c.Profile == nil {
			c.Profile = g.profile
		}
		c.Targets = append(c.Targets, g.Target)
	}
	return c
}

// Explain says in one line why no candidate was left.
func (c *Choice) Explain() string {
	if len(c.Candidates) == 0 {
		return "it has no deployment"
	}
	reasons := make([]string, 0, len(c.Candidates))
	for _, x := range c.Candidates {
		reasons = append(reasons, "deployment "+logos.FormatID(x.Deployment)+": "+x.Excluded)
		if len(reasons) == 20 {
			break
		}
	}
	return strings.Join(reasons, "; ")
}

// granted is a candidate with the profile that grants it.
type granted struct {
	logos.Candidate
	profile *logos.Access
}

func appendGranted(list []granted, profile *logos.Access, candidates []logos.Candidate) []granted {
	for _, c := range candidates {
		list = append(list, granted{c, profile})
	}
	return list
}

func excluded(g granted, r Request, active func(string) bool) string {
	switch {
	case g.Target == nil:
		return g.Excluded
	case !dialect.Serves(g.Target, r.API):
		return APINotServed
	case !active(g.Target.Cluster) && r.Inactive != nil:
		return r.Inactive(g.Target)
	case !active(g.Target.Cluster):
		return NotActive
	}
	return ""
}
