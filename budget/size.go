package budget

import (
	"math"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// DefaultOutput is how many tokens an answer is taken to have at most where neither the caller nor the model
// says: the output limit of the models that most providers offer. [Grant.Limit] has the call say so.
const DefaultOutput = 16_384

// leastOutput is the lowest output limit that a call is clamped to: below it providers refuse the call.
const leastOutput = 16

// A Size bounds what a call can use.
type Size struct {
	Unbounded bool   // no bound is known: it passes through unread, or the provider does more than to answer it
	Beyond    bool   // it has input that it does not hold, which the context window alone bounds
	What      string // of the request, is why; empty: it passes through
	Input     int64  // tokens at most
	Prompts   int64  // in the input; 0: one
	Output    int64  // tokens at most of each answer, as the caller says; 0: not said
	Answers   int64  // that are asked for; 0: one
	NoOutput  bool   // the API answers without tokens
}

// A Target is what a call may be sent to, with what it charges.
type Target struct {
	*logos.Target
	Rates *policy.Rates // the dearest that may hold; nil: it has no price
	// MayServe says whether a call that passes through may be for a model, where nobody has read which; nil: it may not.
	MayServe func(logos.ModelID) bool
}

// InputAt bounds the tokens of the input at a target: no model takes more than its context window of each prompt. It
// returns false where nothing bounds them.
func (s *Size) InputAt(t *logos.Target) (int64, bool) {
	window := int64(0)
	if t.Model != nil {
		window = saturate(t.Model.ContextWindow, max(1, s.Prompts))
	}
	switch {
	case s.Unbounded || s.Beyond && window == 0:
		return 0, false
	case window > 0 && (s.Beyond || s.Input > window):
		return window, true
	}
	return min(s.Input, math.MaxInt64/4), true
}

// output bounds the tokens of all answers of a target, where each has at most limit; 0: no limit is said.
func (s *Size) output(t *logos.Target, limit int64) int64 {
	if s.NoOutput {
		return 0
	}
	bound := least(limit, modelOutput(t.Model))
	if bound == 0 {
		bound = DefaultOutput
	}
	return saturate(bound, s.answers())
}

// modelOutput bounds an answer of a model, by its own limit and by its context window, of which every answer is a
// part; 0: neither is known.
func modelOutput(m *logos.Model) int64 {
	if m == nil {
		return 0
	}
	return least(m.MaxOutputTokens, m.ContextWindow)
}

// least returns the lower of two bounds, of which 0 is none.
func least(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

func (s *Size) answers() int64 { return max(1, s.Answers) }

func saturate(a, b int64) int64 {
	if a > math.MaxInt64/4/b {
		return math.MaxInt64 / 4
	}
	return a * b
}

// picosPerPart is how many of the units of prices make one of those of budgets.
const picosPerPart = 1_000_000_000_000 / 1_000_000_000

// worst returns the most that a call can use of a budget at a target, in its unit's smallest parts. It is not
// known for money without a price in the budget's currency.
func (e *entry) worst(t *Target, s *Size, limit int64) (amount int64, known bool) {
	switch e.Unit {
	case logos.UnitRequests, logos.UnitParallel:
		return 1, true
	case logos.UnitTokens:
		input, known := s.InputAt(t.Target)
		return input + s.output(t.Target, limit), known
	}
	input, known := s.InputAt(t.Target)
	if !known || t.Rates == nil || t.Rates.Currency != e.Currency {
		return 0, false
	}
	picos := t.Rates.Cost(input, s.output(t.Target, limit))
	amount = picos / picosPerPart
	if picos%picosPerPart > 0 {
		amount++
	}
	return amount, true
}

// affords returns the greatest output limit with which a call uses at most left; 0: there is none. It is found
// by halving, for the bounds of a target need not grow evenly.
func (e *entry) affords(t *Target, s *Size, left int64) int64 {
	fits := func(limit int64) bool {
		amount, known := e.worst(t, s, limit)
		return known && amount <= left
	}
	low, high := int64(0), int64(math.MaxInt32)
	if s.Output > 0 {
		high = min(high, s.Output)
	}
	for low < high {
		if middle := low + (high-low+1)/2; fits(middle) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return low
}
