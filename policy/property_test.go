package policy_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

const worlds = 250 // compiling them takes most of the time; the fuzz test goes on

// eligible returns the deployments that were not excluded, by profile and id.
func eligible(c policy.Choice) map[logos.DeploymentID]bool {
	out := make(map[logos.DeploymentID]bool)
	for _, x := range c.Candidates {
		if x.Rank > 0 {
			out[x.Deployment] = true
		}
	}
	return out
}

// checkAgainstOracle makes a choice in a world, and compares all of it.
func checkAgainstOracle(t *testing.T, seed uint64) {
	w := newWorld(seed)
	w.govern()
	r := w.request()
	set := compile(t, w.targets, w.policies...)
	choice := set.Choose(w.profiles, r, &w.caller, w.live())
	verdicts := w.decide(r, w.policies)
	kept := eligible(choice)
	for _, v := range verdicts {
		if !v.out() && !kept[v.d.ID] {
			t.Errorf("world %d: deployment %d is excluded, which meets all demands: %+v", seed, v.d.ID, choice.Candidates)
		}
	}
	for id := range kept {
		if !slices.ContainsFunc(verdicts, func(v *verdict) bool { return v.d.ID == id && !v.out() }) {
			t.Errorf("world %d: deployment %d is kept, which does not meet all demands: %+v", seed, id, choice.Candidates)
		}
	}
	for _, target := range choice.Targets {
		if !kept[target.Deployment.ID] {
			t.Errorf("world %d: the call goes to deployment %d, which is excluded", seed, target.Deployment.ID)
		}
	}
	for _, x := range choice.Candidates {
		if x.Rank == 0 && !slices.ContainsFunc(verdicts, func(v *verdict) bool { return v.d.ID == x.Deployment && v.out() && v.isTrueReason(x) }) {
			t.Errorf("world %d: %q is no true reason to exclude deployment %d", seed, policy.Reason(x, choice.Facts), x.Deployment)
		}
		if (x.Rank == 0) != (x.Excluded != "") && x.Excluded != policy.OverLimit {
			t.Errorf("world %d: deployment %d has the rank %d and the reason %q", seed, x.Deployment, x.Rank, x.Excluded)
		}
	}
	for _, v := range verdicts {
		if !slices.ContainsFunc(choice.Candidates, func(x logos.DecisionCandidate) bool {
			return x.Deployment == v.d.ID && (v.out() || x.Rank > 0)
		}) {
			t.Errorf("world %d: the explanation leaves deployment %d out", seed, v.d.ID)
		}
	}
}

func TestChoosesWhatTheOracleAllowsAndGivesTrueReasons(t *testing.T) {
	t.Parallel()
	for seed := range uint64(worlds) {
		checkAgainstOracle(t, seed)
	}
}

func FuzzChoosesWhatTheOracleAllows(f *testing.F) {
	f.Add(uint64(worlds + 1))
	f.Fuzz(checkAgainstOracle)
}

func TestALowerLevelOnlyTightens(t *testing.T) {
	t.Parallel()
	for seed := range uint64(worlds) {
		w := newWorld(seed)
		w.govern()
		r := w.request()
		slices.SortStableFunc(w.policies, func(a, b *logos.Policy) int { return int(a.Level) - int(b.Level) })
		all := eligible(compile(t, w.targets, w.policies...).Choose(w.profiles, r, &w.caller, w.live()))
		for n := range w.policies {
			if n > 0 && w.policies[n].Level == w.policies[n-1].Level {
				continue // this level begins before
			}
			upper := eligible(compile(t, w.targets, w.policies[:n]...).Choose(w.profiles, r, &w.caller, w.live()))
			for id := range all {
				if !upper[id] {
					t.Errorf("world %d: with the levels below the first %d policies, deployment %d is eligible, and without them it is not", seed, n, id)
				}
			}
		}
	}
}

func TestTightenedPoliciesAllowWhatBothAllow(t *testing.T) {
	t.Parallel()
	for seed := range uint64(worlds) {
		w := newWorld(seed)
		parent, child := w.policy(1, logos.LevelInstallation, 0), w.policy(2, logos.LevelProject, 2)
		for _, p := range []*logos.Policy{parent, child} {
			p.When, p.OnRequest = "", false
		}
		r := w.request()
		choose := func(p *logos.Policy) map[logos.DeploymentID]bool {
			return eligible(compile(t, w.targets, p).Choose(w.profiles, r, &w.caller, w.live()))
		}
		both := logos.Tighten(parent, child)
		got, upper := choose(&both), choose(parent)
		for id := range got {
			if !upper[id] {
				t.Errorf("world %d: deployment %d meets both together, but not the parent", seed, id)
			}
		}
		if parent.Relax == nil && child.Relax == nil {
			want, lower := make(map[logos.DeploymentID]bool), choose(child)
			for id := range upper {
				if lower[id] {
					want[id] = true
				}
			}
			if diff := cmp.Diff(want, got); diff != "" && len(w.profiles) == 1 {
				t.Errorf("world %d: what meets both differs (-each +together):\n%s", seed, diff)
			}
		}
	}
}

func TestEqualInputsGiveEqualChoices(t *testing.T) {
	t.Parallel()
	for seed := range uint64(worlds / 3) {
		w := newWorld(seed)
		w.govern()
		for _, p := range w.policies {
			if p.Objective != nil {
				p.Objective.Exploration, p.Objective.Tolerance = 0.1, 0.1
				p.Objective.Canaries = []logos.Canary{{Targets: logos.Targets{Models: []logos.ModelID{2}}, Percent: 20}}
			}
		}
		r, other := w.request(), w.request()
		set := compile(t, w.targets, w.policies...)
		first := set.Choose(w.profiles, r, &w.caller, w.live())
		set.Choose(w.profiles, other, &w.caller, w.live())
		for _, s := range []*policy.Set{set, compile(t, w.targets, w.policies...)} {
			if diff := cmp.Diff(first, s.Choose(w.profiles, r, &w.caller, w.live())); diff != "" {
				t.Fatalf("world %d: the second choice differs:\n%s", seed, diff)
			}
		}
	}
}

func TestOneMoreDeploymentTurnsNoOthersAround(t *testing.T) {
	t.Parallel()
	for seed := range uint64(worlds) {
		w := newWorld(seed)
		p := w.policy(1, logos.LevelInstallation, 0)
		p.When, p.OnRequest, p.Relax = "", false, nil
		p.Objective = &logos.Objective{Cost: w.Float64(), Latency: w.Float64(), Quality: w.Float64(), Load: w.Float64(), SessionBonus: w.Float64(), PrefixBonus: w.Float64(), Hysteresis: w.Float64()}
		r := w.request()
		r.Incumbent = 2
		before := compile(t, w.targets, p).Choose(w.profiles, r, &w.caller, w.live())
		w.addTarget(0)
		w.addTarget(99)
		for _, added := range w.targets[len(w.targets)-2:] {
			a := w.profiles[0]
			c := append(a.Candidates[added.Model.ID], logos.Candidate{Deployment: added.Deployment, Target: added})
			slices.SortFunc(c, func(x, y logos.Candidate) int { return int(x.Deployment.ID - y.Deployment.ID) })
			a.Candidates[added.Model.ID] = c
		}
		after := compile(t, w.targets, p).Choose(w.profiles, r, &w.caller, w.live())
		scores := make(map[logos.DeploymentID]*logos.DecisionScore)
		ranks := make(map[logos.DeploymentID]int)
		for _, x := range after.Candidates {
			if x.Rank > 0 {
				scores[x.Deployment], ranks[x.Deployment] = x.Score, x.Rank
			}
		}
		for _, x := range before.Candidates {
			if x.Rank > 0 && *scores[x.Deployment] != *x.Score {
				t.Errorf("world %d: the score of deployment %d was %+v and became %+v", seed, x.Deployment, *x.Score, *scores[x.Deployment])
			}
			for _, y := range before.Candidates {
				if x.Rank > 0 && x.Rank < y.Rank && ranks[x.Deployment] > ranks[y.Deployment] {
					t.Errorf("world %d: deployments %d and %d turned around", seed, x.Deployment, y.Deployment)
				}
			}
		}
	}
}
