package policy

import (
	"math/bits"
	"sync"

	"github.com/ls1intum/edutelligence/logos"
)

// scratch is the memory of one choice, used again by later ones.
type scratch struct {
	candidates []candidate
	steps      []step
	order      []int // of eligible candidates, the best first
	tasks      []string
	evaluation evaluation
	ruleHolds  []bool
	alive      []int
}

// A step is one policy on its way through a choice.
type step struct {
	*entry
	profile *logos.Access // applies to what this one grants; nil: to everything
	applies bool
	relaxed uint32
}

// Choose orders what the profiles grant as the policies say that apply to the call. Each policy, from the
// highest level down, leaves a part of what the one above left, so that a lower one can only tighten.
func (s *Set) Choose(profiles []*logos.Access, r *Request, caller *Caller, live Live) Choice {
	x := s.takeScratch()
	defer s.giveBack(x)
	out := Choice{}
	x.tasks = r.Signals.Tasks(x.tasks[:0])
	x.evaluation.request, x.evaluation.caller = r, caller
	if s != nil {
		x.evaluation.index = s.environment.index
		x.plan(s, profiles, r, caller)
	}
	out.Granted = x.collect(profiles, r)
	for i := range x.candidates {
		x.assess(s, &x.candidates[i], r, live)
	}
	for i := range x.steps {
		if x.steps[i].applies {
			x.apply(s, i)
		}
	}
	if len(profiles) > 1 {
		x.dropTwins()
	}
	x.limits(&out)
	o, by := x.objective()
	first := x.sort(o, by, r)
	x.pick(&out)
	if s != nil {
		out.Facts = x.facts(r, first, by)
	}
	out.Candidates, out.Passing = x.explain(len(profiles) > 1, s != nil, o != nil)
	return out
}

// unset is the memory of choices without policies.
var unset sync.Pool

func (s *Set) pool() *sync.Pool {
	if s == nil {
		return &unset
	}
	return &s.scratch
}

func (s *Set) takeScratch() *scratch {
	if x, ok := s.pool().Get().(*scratch); ok {
		return x
	}
	return new(scratch)
}

func (s *Set) giveBack(x *scratch) {
	x.evaluation.close()
	if s == nil {
		clear(x.candidates) // else they would keep a configuration that is gone; a set's pool goes with the set
	}
	x.candidates, x.steps, x.order = x.candidates[:0], x.steps[:0], x.order[:0]
	s.pool().Put(x)
}

// plan lists the policies and decides which apply. A condition that fails holds. Of one level, those that
// the call names come last, so that their objective counts.
func (x *scratch) plan(s *Set, profiles []*logos.Access, r *Request, caller *Caller) {
	s.each(caller, profiles, func(e *entry, profile *logos.Access) {
		if !e.policy.OnRequest || e.policy.Name == r.Policy {
			x.steps = append(x.steps, step{entry: e, profile: profile})
		}
	})
	for i := range x.steps {
		st := &x.steps[i]
		st.applies = st.when == nil || x.condition(st.when, 0) != isFalse
	}
}

// condition evaluates an expression over request and caller alone.
func (x *scratch) condition(e *expression, base int) truth {
	v := &x.evaluation
	v.facts, v.live, v.static = nil, nil, nil
	v.grow(base + len(e.atoms))
	v.prepare(e, base)
	return v.evaluate(e, e.root, base, -1)
}

func (v *evaluation) grow(n int) {
	if len(v.known) < n {
		v.known, v.operands = make([]truth, n), make([]number, 2*n)
	}
}

// apply excludes the candidates that breach the policy of a step. If none is left, what the policy lets go
// of is relaxed.
func (x *scratch) apply(s *Set, index int) {
	st := &x.steps[index]
	view := st.seen(s)
	x.prepare(st, view)
	x.alive = x.alive[:0]
	kept := 0
	for i := range x.candidates {
		c := &x.candidates[i]
		if c.excluded() || st.profile != nil && c.profile != st.profile {
			continue
		}
		c.breaches, c.failures = view.breaches[c.index], view.failures[c.index]
		if c.breaches == 0 || len(st.relax) > 0 {
			c.breaches |= x.measure(st.program, c)
		}
		if c.breaches == 0 {
			kept++
		}
		x.alive = append(x.alive, i)
	}
	if kept == 0 {
		st.relaxed = x.relax(st.relax)
	}
	for _, i := range x.alive {
		c := &x.candidates[i]
		if c.breaches &^= st.relaxed; c.breaches != 0 {
			c.by = index + 1
		}
	}
}

// prepare evaluates what a policy's rules say of the call alone.
func (x *scratch) prepare(st *step, view *view) {
	v := &x.evaluation
	v.grow(st.atoms)
	x.ruleHolds = x.ruleHolds[:0]
	for i := range st.rules {
		r := &st.rules[i]
		x.ruleHolds = append(x.ruleHolds, r.when == nil || x.condition(r.when, r.whenBase) != isFalse)
		v.prepare(r.require, r.base)
	}
	v.static = view.static
}

// measure returns the breaches that depend on the call.
func (x *scratch) measure(p *program, c *candidate) (breaches uint32) {
	k := &p.policy.Constraints
	if k.RequireUsed && x.evaluation.request.uses()&^c.facts.capabilities != 0 {
		breaches |= bitCapabilities
	}
	if len(x.tasks) > 0 {
		if task, _ := brokenTask(k.MinTaskQuality, x.tasks, c.facts.quality, c.facts.model.TaskQuality); task != "" {
			breaches |= bitQuality
		}
		if task, _ := brokenTask(k.MinTaskAccuracy, x.tasks, c.facts.accuracy, c.facts.model.TaskAccuracy); task != "" {
			breaches |= bitAccuracy
		}
	}
	if k.DenyUnpriced && !c.priced() {
		breaches |= bitPriced
	}
	if k.MaxCost != nil && !affordable(p.limits, c) {
		breaches |= bitMaxCost
	}
	if k.MaxFirstToken > 0 && c.state.FirstTokenP95 > k.MaxFirstToken {
		breaches |= bitFirstToken
	}
	for i := range p.rules {
		r := &p.rules[i]
		if r.configured || !x.ruleHolds[i] {
			continue
		}
		switch x.rule(r, c) {
		case isFalse:
			breaches |= r.bit
		case failed:
			breaches, c.failures = breaches|r.bit, c.failures|r.bit
		}
	}
	return breaches
}

// rule evaluates what a rule requires of a candidate.
func (x *scratch) rule(r *rule, c *candidate) truth {
	x.evaluation.facts, x.evaluation.live = c.facts, c
	return x.evaluation.evaluate(r.require, r.require.root, r.base, c.index)
}

func (r *Request) uses() (c capabilities) {
	if r.Tools {
		c |= hasTools
	}
	if r.Images {
		c |= hasVision
	}
	if r.JSONSchema {
		c |= hasJSONSchema
	}
	return c
}

// brokenTask returns the first task of the request for which too little is declared, and how much is needed.
func brokenTask(minima map[string]float64, tasks []string, overall float64, byTask map[string]float64) (string, float64) {
	if len(minima) == 0 {
		return "", 0
	}
	for i, task := range tasks {
		if least, ok := minima[task]; ok && !(declaredFor(overall, byTask, tasks[i:i+1]) >= least) && least > 0 {
			return task, least
		}
	}
	return "", 0
}

func affordable(limits []limit, c *candidate) bool {
	if !c.priced() {
		return false
	}
	for _, l := range limits {
		if l.currency == c.state.Rates.Currency {
			return c.cost <= l.picos
		}
	}
	return false
}

// relax returns the bits to drop so that some candidate is left: the first of the order that are enough, and
// of those no more than needed. 0: not even all are enough.
func (x *scratch) relax(order []uint32) (dropped uint32) {
	for n, bit := range order {
		dropped |= bit
		if !x.leaves(dropped) {
			continue
		}
		for i := n - 1; i >= 0; i-- {
			if x.leaves(dropped &^ order[i]) {
				dropped &^= order[i]
			}
		}
		return dropped
	}
	return 0
}

// leaves says whether a candidate is left without those bits.
func (x *scratch) leaves(dropped uint32) bool {
	for _, i := range x.alive {
		if x.candidates[i].breaches&^dropped == 0 {
			return true
		}
	}
	return false
}

// counts says whether a policy has a say in what is left: one of a profile needs a candidate of it.
func (x *scratch) counts(st *step) bool {
	if !st.applies {
		return false
	}
	if st.profile == nil {
		return true
	}
	for i := range x.candidates {
		if c := &x.candidates[i]; c.profile == st.profile && !c.excluded() && !c.twin {
			return true
		}
	}
	return false
}

// limits combines what the policies say of attempts and waiting.
func (x *scratch) limits(out *Choice) {
	for i := range x.steps {
		if p := x.steps[i].policy; x.counts(&x.steps[i]) {
			out.Attempts = out.Attempts.Tighten(p.Attempts)
			out.Scheduling = out.Scheduling.Tighten(p.Scheduling)
		}
	}
}

// objective returns that of the lowest policy that has one.
func (x *scratch) objective() (*objective, logos.PolicyID) {
	for i := len(x.steps) - 1; i >= 0; i-- {
		if st := &x.steps[i]; st.program.objective != nil && x.counts(st) {
			return st.program.objective, st.policy.ID
		}
	}
	return nil, 0
}

// pick takes the first candidates as targets.
func (x *scratch) pick(out *Choice) {
	n := min(MaxTargets, len(x.order))
	if out.Attempts.Max > 0 {
		n = min(n, out.Attempts.Max)
	}
	for rank, i := range x.order {
		c := &x.candidates[i]
		c.rank = rank + 1
		if rank >= n {
			c.code = OverLimit
			continue
		}
		if out.Targets == nil {
			out.Targets, out.Profile = make([]*logos.Target, 0, n), c.profile
		}
		out.Targets = append(out.Targets, c.Target)
	}
}

// firstBit returns the lowest bit of a set.
func firstBit(set uint32) uint32 { return 1 << bits.TrailingZeros32(set) }
