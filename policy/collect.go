package policy

import (
	"cmp"
	"math"
	"slices"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// A candidate is a deployment that a profile grants, on its way through one choice.
type candidate struct {
	logos.Candidate
	profile *logos.Access
	index   int    // of its facts; -1: there are none
	facts   *facts // nil likewise

	state  State
	output int64 // tokens expected, of all answers
	cost   int64 // picos expected; see priced

	code     string // why it is excluded, whatever the policies say; empty: it is not
	need     int64  // tokens that do not fit
	by       int    // 1 + the index of the step that excluded it; 0: none did
	breaches uint32 // of that step's policy, but for what was relaxed
	failures uint32 // those of them that are rules which failed
	score    score
	rank     int
	twin     bool // another profile's candidate stands for the same target
}

func (c *candidate) priced() bool { return c.state.Rates != nil }

// excluded says whether a candidate is out.
func (c *candidate) excluded() bool { return c.code != "" || c.by != 0 }

func (r *Request) inScope(id logos.ModelID) bool {
	return len(r.Scope) == 0 || slices.Contains(r.Scope, id)
}

// collect gathers what the profiles grant, in order of id.
func (x *scratch) collect(profiles []*logos.Access, r *Request) (granted bool) {
	for _, profile := range profiles {
		if r.Model != nil {
			candidates, ok := profile.Candidates[r.Model.ID]
			if ok && r.inScope(r.Model.ID) {
				granted = true
				x.add(profile, candidates)
			}
			continue
		}
		for _, id := range profile.Models {
			if r.inScope(id) {
				granted = true
				x.add(profile, profile.Candidates[id])
			}
		}
	}
	byID := func(a, b candidate) int { return cmp.Compare(a.Deployment.ID, b.Deployment.ID) }
	if (len(profiles) > 1 || r.Model == nil) && !slices.IsSortedFunc(x.candidates, byID) {
		slices.SortStableFunc(x.candidates, byID)
	}
	return granted
}

func (x *scratch) add(profile *logos.Access, candidates []logos.Candidate) {
	for _, c := range candidates {
		x.candidates = append(x.candidates, candidate{Candidate: c, profile: profile, index: -1})
	}
}

// assess finds out what is known of a candidate, and whether it can be used at all.
func (x *scratch) assess(s *Set, c *candidate, r *Request, live Live) {
	if s != nil {
		if i, ok := s.catalog.index[c.Deployment.ID]; ok {
			c.index, c.facts = i, s.catalog.facts[i]
		}
	}
	if c.Target == nil {
		c.code = c.Excluded
		return
	}
	if live.State != nil {
		c.state = live.State(c.Target, r.InputTokens)
		if !(c.state.Load >= 0) { // also what is no number
			c.state.Load = 0
		}
	}
	c.output = multiply(expectedOutput(r, c.state.OutputTokens), max(1, r.Answers))
	if c.priced() {
		c.cost = c.state.Rates.Cost(r.InputTokens, c.output)
	}
	c.need = neededContext(r)
	switch {
	case !dialect.Serves(c.Target, r.API):
		c.code = APINotServed
	case !live.Active(c.Target.Cluster):
		c.code = live.inactive(c.Target)
	case c.state.Unhealthy != "":
		c.code = Unhealthy
	case c.state.NoPrice != "":
		c.code = NoPrice
	case c.state.OverBudget != "":
		c.code = OverBudget
	case c.Target.Model != nil && c.Target.Model.ContextWindow > 0 && c.need > c.Target.Model.ContextWindow:
		c.code = ContextLength
	case s != nil && c.facts == nil && len(x.steps) > 0:
		c.code = NotCompiled
	}
}

// neededContext returns how many tokens the model must have room for.
func neededContext(r *Request) int64 {
	input := cmp.Or(r.LongestInput, r.InputTokens)
	if input > math.MaxInt64-max(r.MaxTokens, 0) {
		return math.MaxInt64
	}
	return input + max(r.MaxTokens, 0)
}

// expectedOutput returns how many tokens an answer is expected to have, at most what the caller allows.
func expectedOutput(r *Request, measured int64) int64 {
	n := cmp.Or(measured, r.OutputTokens, defaultOutput)
	if r.MaxTokens > 0 {
		n = min(n, r.MaxTokens)
	}
	return n
}

// dropTwins leaves one candidate for each target that is not excluded. Those of one deployment stand together.
func (x *scratch) dropTwins() {
	for i := range x.candidates {
		c := &x.candidates[i]
		if c.excluded() {
			continue
		}
		for j := i + 1; j < len(x.candidates) && x.candidates[j].Deployment.ID == c.Deployment.ID; j++ {
			if other := &x.candidates[j]; other.Target == c.Target && !other.excluded() {
				other.twin = true
			}
		}
	}
}
