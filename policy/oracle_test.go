package policy_test

import (
	"math"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// The oracle decides as the documentation says, slowly, and shares no code with the package.

// A subject is one candidate before the oracle.
type subject struct {
	r       *policy.Request
	t       *logos.Target // nil: there is no credential
	d       *logos.Deployment
	profile *logos.Access
	s       policy.State
	rates   [2]decimal.Decimal
}

func (c *subject) cost() *decimal.Decimal {
	if c.s.Rates == nil {
		return nil
	}
	out := c.r.OutputTokens
	if c.s.OutputTokens != 0 {
		out = c.s.OutputTokens
	}
	if out == 0 {
		out = 500
	}
	if c.r.MaxTokens > 0 && c.r.MaxTokens < out {
		out = c.r.MaxTokens
	}
	in := c.rates[0].Mul(decimal.NewFromInt(c.r.InputTokens))
	total := in.Add(c.rates[1].Mul(decimal.NewFromInt(out)))
	return &total
}

// unusable returns why a candidate can't be used whatever the policies say.
func (w *world) unusable(c *subject) string {
	switch {
	case c.t == nil:
		return policy.NoCredential
	case !dialect.Serves(c.t, c.r.API):
		return policy.APINotServed
	case w.inactive[c.t.Cluster]:
		return policy.NotActive
	case c.s.Unhealthy != "":
		return policy.Unhealthy
	case c.s.OverBudget != "":
		return policy.OverBudget
	case c.t.Model.ContextWindow > 0 && c.r.InputTokens+c.r.MaxTokens > c.t.Model.ContextWindow:
		return policy.ContextLength
	}
	return ""
}

// breaches returns the names of the constraints of a policy that a candidate breaks; rules as "rule:name".
func (w *world) breaches(p *logos.Policy, c *subject) (out []logos.Constraint) {
	k, m := &p.Constraints, c.t.Model
	add := func(name logos.Constraint, broken bool) {
		if broken && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	zone := c.t.Provider.PrivacyZone
	if zone == logos.ZoneUnknown {
		zone = logos.ZoneAnywhere
	}
	add(logos.ConstraintPrivacyZone, k.MaxPrivacyZone != 0 && zone > k.MaxPrivacyZone)
	add(logos.ConstraintAccess, k.Allow.Models != nil && !slices.Contains(k.Allow.Models, m.ID))
	add(logos.ConstraintAccess, k.Allow.Providers != nil && !slices.Contains(k.Allow.Providers, c.t.Provider.ID))
	add(logos.ConstraintAccess, k.Allow.Deployments != nil && !slices.Contains(k.Allow.Deployments, c.d.ID))
	add(logos.ConstraintAccess, slices.Contains(k.Deny.Models, m.ID) || slices.Contains(k.Deny.Providers, c.t.Provider.ID) || slices.Contains(k.Deny.Deployments, c.d.ID))
	for _, l := range k.Labels {
		v, there := c.d.Labels[l.Label]
		in := there && slices.Contains(l.Values, v)
		add(logos.ConstraintLabels, l.Operator == logos.LabelIn && !in || l.Operator == logos.LabelNotIn && in || l.Operator == logos.LabelExists && !there || l.Operator == logos.LabelNotExists && there)
	}
	for _, name := range k.Capabilities {
		add(logos.ConstraintCapabilities, !has(m.Capabilities, name))
	}
	if k.RequireUsed {
		add(logos.ConstraintCapabilities, c.r.Tools && !has(m.Capabilities, "tools") || c.r.Images && !has(m.Capabilities, "vision") || c.r.JSONSchema && !has(m.Capabilities, "json_schema"))
	}
	add(logos.ConstraintQuality, tooLittle(k.MinQuality, k.MinTaskQuality, m.Quality, m.TaskQuality, c.r))
	add(logos.ConstraintAccuracy, tooLittle(k.MinAccuracy, k.MinTaskAccuracy, m.Accuracy, m.TaskAccuracy, c.r))
	add(logos.ConstraintPriced, k.DenyUnpriced && c.s.Rates == nil)
	if k.MaxCost != nil {
		cost, fits := c.cost(), false
		for _, l := range k.MaxCost {
			fits = fits || cost != nil && l.Currency == c.s.Rates.Currency && cost.LessThanOrEqual(l.Amount)
		}
		add(logos.ConstraintMaxCost, !fits)
	}
	add(logos.ConstraintFirstToken, k.MaxFirstToken > 0 && c.s.FirstTokenP95 > k.MaxFirstToken)
	for _, r := range p.Rules {
		if holds(r.When, c.r, &w.caller) {
			met := meaning(r.Require)(c)
			add(logos.RuleConstraint(r.Name), met == nil || !*met)
		}
	}
	return out
}

func tooLittle(least float64, tasks map[string]float64, overall *float64, byTask map[string]float64, r *policy.Request) bool {
	value := func(p *float64) float64 {
		if p == nil {
			return math.Inf(-1)
		}
		return *p
	}
	if least > 0 && value(overall) < least {
		return true
	}
	for task, least := range tasks {
		asked := has(r.Signals.Keywords, task) || task == "code" && r.Signals.Code
		have := value(overall)
		if v, ok := byTask[task]; ok {
			have = v
		}
		if asked && least > 0 && have < least {
			return true
		}
	}
	return false
}

func holds(text string, r *policy.Request, c *policy.Caller) bool {
	for _, x := range conditions {
		if x.text == text {
			return x.mean(r, c)
		}
	}
	panic("unknown condition")
}

func meaning(text string) func(*subject) *bool {
	for _, x := range rules {
		if x.text == text {
			return x.mean
		}
	}
	panic("unknown rule")
}

// A verdict is what the oracle says of a candidate.
type verdict struct {
	*subject
	base    string             // why it is unusable
	policy  logos.PolicyID     // that excluded it
	reasons []logos.Constraint // any of these is a true reason
}

func (v *verdict) out() bool { return v.base != "" || v.policy != 0 }

func (w *world) subjects(r *policy.Request) (out []*verdict) {
	for _, p := range w.profiles {
		for _, m := range w.models {
			if r.Model != nil && r.Model != m {
				continue
			}
			for _, c := range p.Candidates[m.ID] {
				s := &subject{r: r, t: c.Target, d: c.Deployment, profile: p, s: w.states[c.Deployment.ID]}
				s.rates = w.rates[c.Deployment.ID]
				if c.Target == nil {
					s.s = policy.State{}
				}
				out = append(out, &verdict{subject: s, base: w.unusable(s)})
			}
		}
	}
	return out
}

// decide applies the policies, the highest level first.
func (w *world) decide(r *policy.Request, policies []*logos.Policy) []*verdict {
	all := w.subjects(r)
	sorted := slices.Clone(policies)
	slices.SortStableFunc(sorted, func(a, b *logos.Policy) int { return int(a.Level) - int(b.Level) })
	for _, p := range sorted {
		if p.OnRequest && r.Policy != p.Name || !w.owns(p) || !holds(p.When, r, &w.caller) {
			continue
		}
		var alive []*verdict
		for _, v := range all {
			if !v.out() && (p.Level != logos.LevelProfile || int64(v.profile.ID) == p.Owner) {
				v.reasons = w.breaches(p, v.subject)
				alive = append(alive, v)
			}
		}
		dropped := relaxation(p.Relax, alive)
		for _, v := range alive {
			v.reasons = slices.DeleteFunc(v.reasons, func(c logos.Constraint) bool { return slices.Contains(dropped, c) })
			if len(v.reasons) > 0 {
				v.policy = p.ID
			}
		}
	}
	return all
}

func (w *world) owns(p *logos.Policy) bool {
	switch p.Level {
	case logos.LevelTeam:
		return p.Owner == int64(w.caller.Team)
	case logos.LevelProject:
		return p.Owner == int64(w.caller.Project)
	case logos.LevelAPIKey:
		return p.Owner == int64(w.caller.Key)
	}
	return true
}

// relaxation returns the constraints to drop: the least that is enough of the shortest beginning that is.
func relaxation(order []logos.Constraint, alive []*verdict) []logos.Constraint {
	enough := func(dropped []logos.Constraint) bool {
		return slices.ContainsFunc(alive, func(v *verdict) bool {
			return !slices.ContainsFunc(v.reasons, func(c logos.Constraint) bool { return !slices.Contains(dropped, c) })
		})
	}
	for n := range len(order) + 1 {
		dropped := slices.Clone(order[:n])
		if !enough(dropped) {
			continue
		}
		for i := n - 2; i >= 0; i-- {
			if fewer := slices.DeleteFunc(slices.Clone(dropped), func(c logos.Constraint) bool { return c == order[i] }); enough(fewer) {
				dropped = fewer
			}
		}
		return dropped
	}
	return nil
}

// isTrueReason says whether a recorded reason is one that the oracle found.
func (v *verdict) isTrueReason(d logos.DecisionCandidate) bool {
	if v.base != "" {
		return d.Excluded == v.base
	}
	name := logos.Constraint(d.Excluded)
	if strings.HasPrefix(d.Excluded, "rule") {
		name = logos.RuleConstraint(d.What)
	}
	return d.Policy == v.policy && slices.Contains(v.reasons, name)
}
