package extproc

import (
	"errors"
	"fmt"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

// A Snapshot is what decisions are made by: a revision of the configuration with its policies compiled. It
// is immutable.
type Snapshot struct {
	*logos.Config
	policies *policy.Set        // nil: there are none
	signals  *signals.Extractor // nil likewise
	unusable error              // of policies: no call may be decided without them
	prices   *prices
	budgets  *budget.Index // nil: there are none
}

// NewSnapshot compiles a revision. What has not changed since previous, which may be nil, is taken over. The
// errors name policies that can't be used: each lets nothing through.
func NewSnapshot(config *logos.Config, previous *Snapshot) (*Snapshot, error) {
	s := &Snapshot{Config: config, prices: newPrices(config, previous), budgets: newBudgets(config, previous)}
	if len(config.Policies()) == 0 {
		return s, nil
	}
	if previous != nil && previous.policies != nil && previous.unusable == nil && sameSlice(previous.Policies(), config.Policies()) &&
		sameSlice(previous.Targets(), config.Targets()) && previous.Tasks() == config.Tasks() {
		s.policies, s.signals = previous.policies, previous.signals
		return s, nil
	}
	var broken error
	s.policies, broken = compile(config, previous)
	if s.policies == nil {
		s.unusable = broken
		return s, broken
	}
	if s.signals, s.unusable = signals.New(*config.Tasks()); s.unusable != nil {
		return s, fmt.Errorf("compile the task matchers: %w", s.unusable)
	}
	return s, broken
}

// newBudgets takes over those of a snapshot before, which may be nil, if nothing has changed in them.
func newBudgets(config *logos.Config, previous *Snapshot) *budget.Index {
	if previous != nil && sameSlice(previous.Budgets(), config.Budgets()) {
		return previous.budgets
	}
	return budget.NewIndex(config.Budgets())
}

// compile compiles the policies. One that can't be used, because a newer program stored it, say, is replaced
// by one that allows nothing.
func compile(config *logos.Config, previous *Snapshot) (*policy.Set, error) {
	var was *policy.Set
	if previous != nil {
		was = previous.policies
	}
	set, err := policy.Compile(config.Targets(), config.Policies(), was)
	if err == nil {
		return set, nil
	}
	policies := make([]*logos.Policy, len(config.Policies()))
	for i, p := range config.Policies() {
		policies[i] = p
		if found, err := policy.Check(p); err != nil || len(found) > 0 {
			policies[i] = p.Closed()
		}
	}
	set, again := policy.Compile(config.Targets(), policies, was)
	return set, errors.Join(err, again)
}

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
