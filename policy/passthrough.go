package policy

import (
	"slices"

	"github.com/ls1intum/edutelligence/logos"
)

// Passes says why policies forbid that a call passes through to a provider, under a profile; empty: they do
// not. named is the policy that the call names; empty: none. Such a call is unread, so only what is never relaxed
// counts: privacy and access. What of that depends on a model can't be seen, and forbids it; a condition that depends
// on the request holds, unless the caller alone decides that it does not.
func (s *Set) Passes(provider *logos.Provider, profile *logos.Access, named string, caller *Caller) (by *logos.Policy, why string) {
	if s == nil {
		return nil, ""
	}
	r := &Request{Policy: named}
	x := s.takeScratch()
	defer s.giveBack(x)
	x.evaluation.request, x.evaluation.caller, x.evaluation.index, x.evaluation.unread = r, caller, s.environment.index, true
	x.plan(s, []*logos.Access{profile}, r, caller)
	for i := range x.steps {
		st := &x.steps[i]
		if !st.applies {
			continue
		}
		if why := forbids(st.policy, provider); why != "" {
			return st.policy, why
		}
	}
	return nil, ""
}

// forbids says why a policy forbids all calls to a provider that are not read.
func forbids(p *logos.Policy, provider *logos.Provider) string {
	k := &p.Constraints
	switch {
	case !provider.PrivacyZone.Within(k.MaxPrivacyZone):
		return "its privacy zone " + provider.PrivacyZone.Effective().String() + " is beyond " + k.MaxPrivacyZone.String()
	case slices.Contains(k.Deny.Providers, provider.ID):
		return "it is on the deny list"
	case k.Allow.Providers != nil && !slices.Contains(k.Allow.Providers, provider.ID):
		return "it is not on the allow list"
	case k.Allow.Models != nil || k.Allow.Deployments != nil || len(k.Deny.Models)+len(k.Deny.Deployments) > 0:
		return "its lists of models or deployments can't be checked for calls that pass through"
	}
	for i := range p.Rules {
		if r := &p.Rules[i]; r.Kind != logos.RulePreference {
			return "its rule " + r.Name + " can't be checked for calls that pass through"
		}
	}
	return ""
}
