package logos

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

// Tighten returns what two policies that both apply to a call demand together, as one policy of the child's
// level. Whatever the child says, what meets the result meets the parent: limits are the smaller, minima the
// greater, allow lists intersect, everything else that is demanded adds up. Only what the child alone
// demands can still be relaxed. The child's objective wins, since it only orders what is left.
func Tighten(parent, child *Policy) Policy {
	out := *child
	out.When = ""
	out.Constraints = tightenConstraints(&parent.Constraints, &child.Constraints)
	out.Rules = tightenRules(parent.Rules, child.Rules)
	out.Relax = nil
	for _, c := range child.Relax {
		if !parent.Demands(c) {
			out.Relax = append(out.Relax, c)
		}
	}
	if child.Objective == nil {
		out.Objective = parent.Objective
	}
	out.Attempts = parent.Attempts.Tighten(child.Attempts)
	out.Scheduling = parent.Scheduling.Tighten(child.Scheduling)
	return out
}

// Demands says whether a policy has a constraint of that name.
func (p *Policy) Demands(name Constraint) bool {
	c := &p.Constraints
	switch name {
	case ConstraintPrivacyZone:
		return c.MaxPrivacyZone != ZoneUnknown
	case ConstraintAccess:
		return !c.Allow.none() || !c.Deny.none()
	case ConstraintLabels:
		return len(c.Labels) > 0
	case ConstraintCapabilities:
		return len(c.Capabilities) > 0 || c.RequireUsed
	case ConstraintQuality:
		return c.MinQuality > 0 || len(c.MinTaskQuality) > 0
	case ConstraintAccuracy:
		return c.MinAccuracy > 0 || len(c.MinTaskAccuracy) > 0
	case ConstraintPriced:
		return c.DenyUnpriced
	case ConstraintMaxCost:
		return c.MaxCost != nil
	case ConstraintFirstToken:
		return c.MaxFirstToken > 0
	}
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return RuleConstraint(r.Name) == name })
}

func (t Targets) none() bool { return t.Models == nil && t.Providers == nil && t.Deployments == nil }

func tightenConstraints(p, c *Constraints) Constraints {
	return Constraints{
		MaxPrivacyZone:  leastSet(p.MaxPrivacyZone, c.MaxPrivacyZone),
		Allow:           Targets{intersect(p.Allow.Models, c.Allow.Models), intersect(p.Allow.Providers, c.Allow.Providers), intersect(p.Allow.Deployments, c.Allow.Deployments)},
		Deny:            Targets{union(p.Deny.Models, c.Deny.Models), union(p.Deny.Providers, c.Deny.Providers), union(p.Deny.Deployments, c.Deny.Deployments)},
		Labels:          slices.Concat(p.Labels, c.Labels),
		Capabilities:    union(p.Capabilities, c.Capabilities),
		RequireUsed:     p.RequireUsed || c.RequireUsed,
		MinQuality:      max(p.MinQuality, c.MinQuality),
		MinAccuracy:     max(p.MinAccuracy, c.MinAccuracy),
		MinTaskQuality:  greatest(p.MinTaskQuality, c.MinTaskQuality),
		MinTaskAccuracy: greatest(p.MinTaskAccuracy, c.MinTaskAccuracy),
		MaxCost:         leastCosts(p.MaxCost, c.MaxCost),
		DenyUnpriced:    p.DenyUnpriced || c.DenyUnpriced,
		MaxFirstToken:   leastSet(p.MaxFirstToken, c.MaxFirstToken),
	}
}

// tightenRules keeps the rules of both; a child's rule whose name is taken gets another one.
func tightenRules(parent, child []Rule) []Rule {
	out := slices.Clone(parent)
	for _, r := range child {
		name := r.Name
		for i := 2; slices.ContainsFunc(out, func(x Rule) bool { return x.Name == r.Name }); i++ {
			r.Name = name + "-" + strconv.Itoa(i)
		}
		out = append(out, r)
	}
	return out
}

// Tighten returns the stricter of both in each respect.
func (a AttemptLimits) Tighten(b AttemptLimits) AttemptLimits {
	return AttemptLimits{
		Max:        leastSet(a.Max, b.Max),
		On:         intersect(a.On, b.On),
		TotalTime:  leastSet(a.TotalTime, b.TotalTime),
		FirstToken: leastSet(a.FirstToken, b.FirstToken),
	}
}

// Tighten returns the stricter of both in each respect.
func (a Scheduling) Tighten(b Scheduling) Scheduling {
	out := Scheduling{Priority: a.Priority, MaxQueueTime: leastSet(a.MaxQueueTime, b.MaxQueueTime), Deadline: leastSet(a.Deadline, b.Deadline)}
	if a.Priority == nil || b.Priority != nil && *b.Priority < *a.Priority {
		out.Priority = b.Priority
	}
	return out
}

// leastSet returns the smaller of two limits of which 0 is none.
func leastSet[T PrivacyZone | time.Duration | int](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// intersect returns what both lists have, where nil has everything.
func intersect[T comparable](a, b []T) []T {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	out := make([]T, 0, len(a))
	for _, x := range a {
		if slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

func union[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, x := range b {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}

func greatest(a, b map[string]float64) map[string]float64 {
	if len(a) == 0 {
		return b
	}
	out := maps.Clone(a)
	for task, v := range b {
		out[task] = max(out[task], v)
	}
	return out
}

// leastCosts keeps the currencies that both limits have: the others are excluded by one of them.
func leastCosts(a, b []Money) []Money {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	out := make([]Money, 0, len(a))
	for _, x := range a {
		for _, y := range b {
			if x.Currency == y.Currency {
				if y.Amount.LessThan(x.Amount) {
					x = y
				}
				out = append(out, x)
				break
			}
		}
	}
	return out
}
