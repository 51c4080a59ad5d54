package policy_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

// order returns the deployments in order of rank.
func order(c policy.Choice) string {
	out := make([]string, 0, len(c.Candidates))
	for rank := 1; rank <= len(c.Candidates); rank++ {
		for _, x := range c.Candidates {
			if x.Rank == rank {
				out = append(out, logos.FormatID(x.Deployment))
			}
		}
	}
	return strings.Join(out, " ")
}

func installation(c logos.Constraints, rules ...logos.Rule) *logos.Policy {
	return &logos.Policy{ID: 7, Revision: 12, Constraints: c, Rules: rules}
}

func TestSaysWhyInNumbers(t *testing.T) {
	t.Parallel()
	quality := 0.5
	model := &logos.Model{ID: 1, Name: "m", ContextWindow: 1000, Quality: &quality, Capabilities: []string{"tools"}}
	target := &logos.Target{
		Cluster: "d1", Model: model, Credential: &logos.Credential{}, Provider: &logos.Provider{ID: 1, Dialect: logos.DialectOpenAI},
		Deployment: &logos.Deployment{ID: 1, Labels: map[string]string{"tier": "silver"}},
	}
	access := &logos.Access{Profile: &logos.Profile{ID: 1, Models: []logos.ModelID{1}}, Candidates: map[logos.ModelID][]logos.Candidate{1: {{Deployment: target.Deployment, Target: target}}}}
	rates, err := policy.NewRates("EUR", decimal.New(1, -5), decimal.New(3, -5), decimal.New(1, -3))
	if err != nil {
		t.Fatal(err)
	}
	demanded := " (policy 7, revision 12, of the installation)"
	for _, c := range []struct {
		name   string
		policy *logos.Policy
		state  policy.State
		want   string
	}{
		{"zone", installation(logos.Constraints{MaxPrivacyZone: logos.ZoneEUByEU}), policy.State{}, "privacy_zone: anywhere > eu_eu" + demanded},
		{"deny", installation(logos.Constraints{Deny: logos.Targets{Providers: []logos.ProviderID{1}}}), policy.State{}, "access: on the deny list" + demanded},
		{"allow", installation(logos.Constraints{Allow: logos.Targets{Models: []logos.ModelID{}}}), policy.State{}, "access: not on the allow list" + demanded},
		{"label", installation(logos.Constraints{Labels: []logos.LabelRequirement{{Label: "tier", Operator: logos.LabelIn, Values: []string{"gold"}}}}), policy.State{}, "labels: tier" + demanded},
		{"capability", installation(logos.Constraints{Capabilities: []string{"tools", "audio"}}), policy.State{}, "capabilities: no audio" + demanded},
		{"used capability", installation(logos.Constraints{RequireUsed: true}), policy.State{}, "capabilities: no vision" + demanded},
		{"quality", installation(logos.Constraints{MinQuality: 0.75}), policy.State{}, "quality: 0.5 < 0.75" + demanded},
		{"quality for a task", installation(logos.Constraints{MinTaskQuality: map[string]float64{"code": 0.8, "math": 0.9}}), policy.State{}, "quality: 0.5 < 0.8 for code" + demanded},
		{"accuracy", installation(logos.Constraints{MinAccuracy: 0.1}), policy.State{}, "accuracy: not declared < 0.1" + demanded},
		{"no price", installation(logos.Constraints{DenyUnpriced: true}), policy.State{}, "priced" + demanded},
		{"cost", installation(logos.Constraints{MaxCost: []logos.Money{{Amount: decimal.New(9999, -6), Currency: "EUR"}}}), policy.State{Rates: rates}, "max_cost: 0.01 > 0.009999 EUR" + demanded},
		{"cost without a price", installation(logos.Constraints{MaxCost: []logos.Money{{Amount: decimal.New(1, 0), Currency: "EUR"}}}), policy.State{}, "max_cost: it has no price" + demanded},
		{"another currency", installation(logos.Constraints{MaxCost: []logos.Money{{Amount: decimal.New(1, 0), Currency: "USD"}}}), policy.State{Rates: rates}, "max_cost: there is no limit in EUR" + demanded},
		{"first token", installation(logos.Constraints{MaxFirstToken: 2 * time.Second}), policy.State{FirstTokenP95: 2500 * time.Millisecond}, "time_to_first_token: 2.5s > 2s" + demanded},
		{"rule", installation(logos.Constraints{}, logos.Rule{Name: "gold", Require: `candidate.labels["tier"] == "gold"`}), policy.State{}, "rule: gold" + demanded},
		{"failed rule", installation(logos.Constraints{}, logos.Rule{Name: "site", Kind: logos.RulePrivacy, Require: `candidate.labels["site"] != "x"`}), policy.State{}, "rule_error: site" + demanded},
		{"failed rule of the call", installation(logos.Constraints{}, logos.Rule{Name: "speed", Require: `candidate.time_to_first_token < duration("1s")`}), policy.State{}, "rule_error: speed" + demanded},
		{"unhealthy", installation(logos.Constraints{}), policy.State{Unhealthy: "breaker_open"}, "unhealthy: breaker_open"},
		{"budget", installation(logos.Constraints{}), policy.State{OverBudget: "monthly"}, "over_budget: monthly"},
		{"kept", installation(logos.Constraints{}), policy.State{}, ""},
	} {
		set := compile(t, []*logos.Target{target}, c.policy)
		r := &policy.Request{API: logos.APIChat, InputTokens: 300, MaxTokens: 200, OutputTokens: 400, Tools: true, Images: true, Signals: signals.Signals{Code: true}}
		live := policy.Live{Active: func(string) bool { return true }, State: func(*logos.Target, int64) policy.State { return c.state }}
		got := set.Choose([]*logos.Access{access}, r, &policy.Caller{}, live)
		if reason := policy.Reason(got.Candidates[0], got.Facts); reason != c.want {
			t.Errorf("%s: it says %q, want %q", c.name, reason, c.want)
		}
		r.InputTokens = 801
		got = set.Choose([]*logos.Access{access}, r, &policy.Caller{}, live)
		if reason := policy.Reason(got.Candidates[0], got.Facts); c.name == "kept" && reason != "context_length: 1001 tokens > 1000" {
			t.Errorf("for a request that is too long it says %q", reason)
		}
	}
}

// three targets of which the first is the best, with the objective to be tried.
func contest(t *testing.T, o *logos.Objective, states map[logos.DeploymentID]policy.State) func(r policy.Request) policy.Choice {
	targets, access, live := fleet(3)
	inner := live.State
	live.State = func(t *logos.Target, n int64) policy.State {
		if s, ok := states[t.Deployment.ID]; ok {
			return s
		}
		return inner(t, n)
	}
	set := compile(t, targets, &logos.Policy{ID: 1, Objective: o})
	return func(r policy.Request) policy.Choice {
		r.API = logos.APIChat
		return set.Choose([]*logos.Access{access}, &r, &policy.Caller{}, live)
	}
}

func TestCanariesGetTheirShareAndNoOtherCalls(t *testing.T) {
	t.Parallel()
	choose := contest(t, &logos.Objective{Latency: 1, Canaries: []logos.Canary{{Targets: logos.Targets{Deployments: []logos.DeploymentID{1}}, Percent: 5}, {Targets: logos.Targets{Models: []logos.ModelID{3}}, Percent: 20}}}, nil)
	const calls = 20000
	first := make(map[string]int)
	for i := range calls {
		c := choose(policy.Request{Seed: policy.Seed(logos.CallID(fmt.Sprint(i)))})
		first[order(c)+" "+c.Facts.First]++
	}
	if len(first) != 3 {
		t.Fatalf("the orders are %v", first)
	}
	for _, x := range []struct {
		order string
		share float64
	}{{"1 2 3 canary", 0.05}, {"3 2 1 canary", 0.20}, {"2 1 3 ", 0.75}} {
		if got := float64(first[x.order]) / calls; math.Abs(got-x.share) > 0.01 {
			t.Errorf("the share of %q is %.3f, want %.2f: %v", x.order, got, x.share, first)
		}
	}
}

func TestExploresInItsShareWhatIsLittleKnown(t *testing.T) {
	t.Parallel()
	choose := contest(t, &logos.Objective{Latency: 1, Exploration: 0.1}, map[logos.DeploymentID]policy.State{3: {FirstToken: time.Minute, Stale: true}, 2: {FirstToken: time.Minute}})
	explored := 0
	for i := range uint64(10000) {
		switch c := choose(policy.Request{Seed: i}); {
		case order(c) == "3 1 2" && c.Facts.First == logos.FirstExplore:
			explored++
		case order(c) != "1 2 3":
			t.Fatalf("the order is %q", order(c))
		}
	}
	if explored < 900 || explored > 1100 {
		t.Errorf("%d of 10000 calls explore, want a tenth", explored)
	}
}

func TestSpreadsCallsOverNearEqualsByTheirLoad(t *testing.T) {
	t.Parallel()
	states := map[logos.DeploymentID]policy.State{1: {FirstToken: time.Second, Load: 0.9}, 2: {FirstToken: 1010 * time.Millisecond, Load: 0.1}, 3: {FirstToken: 1020 * time.Millisecond, Load: 0.5}}
	choose := contest(t, &logos.Objective{Latency: 1, Tolerance: 0.02}, states)
	first := make(map[logos.DeploymentID]int)
	for i := range uint64(3000) {
		first[choose(policy.Request{Seed: i}).Targets[0].Deployment.ID]++
	}
	if first[1] != 0 || first[2] < 1900 || first[2] > 2100 || first[3] < 900 {
		t.Errorf("the first targets are %v: of two drawn by chance, the less loaded one must be first", first)
	}
	if c := contest(t, &logos.Objective{Latency: 1}, states)(policy.Request{Seed: 1}); order(c) != "1 2 3" {
		t.Errorf("without tolerance the order is %s", order(c))
	}
}

func TestKeepsToWhatItChoseLastAndWhereASessionWas(t *testing.T) {
	t.Parallel()
	states := map[logos.DeploymentID]policy.State{1: {FirstToken: time.Second}, 2: {FirstToken: 1010 * time.Millisecond}, 3: {FirstToken: 9 * time.Second}}
	choose := contest(t, &logos.Objective{Latency: 1, Hysteresis: 0.05, SessionBonus: 0.5, PrefixBonus: 0.6}, states)
	for _, c := range []struct {
		name    string
		request policy.Request
		want    string
	}{
		{"nothing", policy.Request{}, "1 2 3"},
		{"a near incumbent", policy.Request{Incumbent: 2}, "2 1 3"},
		{"a far incumbent", policy.Request{Incumbent: 3}, "1 2 3"},
		{"a session", policy.Request{SessionDeployment: 3}, "3 1 2"},
		{"a prefix against a session", policy.Request{SessionDeployment: 3, PrefixServed: 2}, "2 3 1"},
	} {
		if got := order(choose(c.request)); got != c.want {
			t.Errorf("with %s the order is %s, want %s", c.name, got, c.want)
		}
	}
	first := make(map[logos.DeploymentID]int)
	equal := contest(t, &logos.Objective{SessionBonus: 1}, nil)
	for i := range 3000 {
		r := policy.Request{SessionHash: policy.Hash(fmt.Sprint(i)), Seed: uint64(i)}
		c := equal(r)
		first[c.Targets[0].Deployment.ID]++
		r.Seed++
		if order(equal(r)) != order(c) {
			t.Fatal("a session wanders")
		}
	}
	for id, n := range first {
		if n < 850 || n > 1150 {
			t.Errorf("%d of 3000 sessions are at deployment %d, want a third", n, id)
		}
	}
}

func TestTheLowestObjectiveOrdersAndAttemptsTighten(t *testing.T) {
	t.Parallel()
	targets, access, live := fleet(3)
	two, five := 2, 5
	set := compile(t, targets,
		&logos.Policy{ID: 1, Objective: &logos.Objective{Latency: 1}, Attempts: logos.AttemptLimits{Max: 2, On: []logos.RetryCondition{logos.RetryReset, logos.RetrySilent}}, Scheduling: logos.Scheduling{Priority: &two, MaxQueueTime: time.Second}},
		&logos.Policy{ID: 2, Level: logos.LevelProject, Owner: 2, Objective: &logos.Objective{Quality: 1}, Attempts: logos.AttemptLimits{Max: 3, On: []logos.RetryCondition{logos.RetryReset, logos.RetryServerError}, TotalTime: time.Minute}, Scheduling: logos.Scheduling{Priority: &five, Deadline: time.Hour}},
		&logos.Policy{ID: 3, Name: "cheap", Level: logos.LevelProject, Owner: 2, OnRequest: true, Objective: &logos.Objective{Cost: 1}},
	)
	for _, c := range []struct {
		named, want string
		objective   logos.PolicyID
	}{{"", "3 2 1", 2}, {"cheap", "1 2 3", 3}} {
		r := &policy.Request{API: logos.APIChat, Policy: c.named, InputTokens: 10}
		got := set.Choose([]*logos.Access{access}, r, &policy.Caller{Project: 2}, live)
		if order(got) != c.want || got.Facts.Objective != c.objective || len(got.Targets) != 2 || got.Candidates[1].Rank != 2 {
			t.Errorf("with policy %q the order is %s by policy %d with %d targets, want %s by %d with 2", c.named, order(got), got.Facts.Objective, len(got.Targets), c.want, c.objective)
		}
		want := logos.AttemptLimits{Max: 2, On: []logos.RetryCondition{logos.RetryReset}, TotalTime: time.Minute}
		if diff := cmp.Diff(want, got.Attempts); diff != "" {
			t.Errorf("attempts differ (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(logos.Scheduling{Priority: &two, MaxQueueTime: time.Second, Deadline: time.Hour}, got.Scheduling); diff != "" {
			t.Errorf("scheduling differs (-want +got):\n%s", diff)
		}
	}
	if !set.Has("cheap", &policy.Caller{Project: 2}, nil) || set.Has("cheap", &policy.Caller{Project: 3}, nil) {
		t.Error("a policy can be named by the calls of other projects, or not by its own")
	}
}

func TestSaysWhatItRelaxed(t *testing.T) {
	t.Parallel()
	targets, access, live := fleet(3)
	p := installation(logos.Constraints{MaxFirstToken: time.Millisecond, MaxCost: []logos.Money{{Amount: decimal.Zero, Currency: "EUR"}}, MinQuality: 0.62})
	p.Relax = []logos.Constraint{logos.ConstraintQuality, logos.ConstraintMaxCost, logos.ConstraintFirstToken}
	got := compile(t, targets, p).Choose([]*logos.Access{access}, &policy.Request{API: logos.APIChat}, &policy.Caller{}, live)
	if diff := cmp.Diff([]logos.Constraint{logos.ConstraintMaxCost, logos.ConstraintFirstToken}, got.Facts.Policies[0].Relaxed); diff != "" || order(got) != "3" {
		t.Errorf("it chooses %s and relaxes (-want +got):\n%s", order(got), diff)
	}
}

func TestTakesOverWhatDidNotChange(t *testing.T) {
	t.Parallel()
	targets, access, live := fleet(4)
	choose := func(s *policy.Set) string {
		return order(s.Choose([]*logos.Access{access}, &policy.Request{API: logos.APIChat}, &policy.Caller{}, live))
	}
	first, err := policy.Compile(targets, []*logos.Policy{installation(logos.Constraints{MaxPrivacyZone: logos.ZoneEUByEU})}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := choose(first); got != "1 4" {
		t.Errorf("the order is %s, want 1 4", got)
	}
	moved := *targets[1]
	moved.Provider = &logos.Provider{ID: 3, Dialect: logos.DialectOpenAI, PrivacyZone: logos.ZoneLocal}
	access.Candidates[2][0].Target = &moved
	targets[1] = &moved
	second, err := policy.Compile(targets, []*logos.Policy{installation(logos.Constraints{MaxPrivacyZone: logos.ZoneEUByEU})}, first)
	if err != nil {
		t.Fatal(err)
	}
	if got := choose(second); got != "1 2 4" {
		t.Errorf("after a provider moved, the order is %s, want 1 2 4", got)
	}
	third, err := policy.Compile(targets, []*logos.Policy{installation(logos.Constraints{MaxPrivacyZone: logos.ZoneLocal})}, second)
	if err != nil {
		t.Fatal(err)
	}
	if got := choose(third); got != "2 4" {
		t.Errorf("after the policy changed, the order is %s, want 2 4", got)
	}
}

func TestManyChooseAtOnce(t *testing.T) {
	t.Parallel()
	targets, access, live := fleet(20)
	set := compile(t, targets, house()...)
	choose := func() policy.Choice {
		return set.Choose([]*logos.Access{access}, &policy.Request{API: logos.APIChat, Stream: true, Seed: 4}, &policy.Caller{Project: 2, ProjectName: "tutor"}, live)
	}
	want := compile(t, targets, house()...).Choose([]*logos.Access{access}, &policy.Request{API: logos.APIChat, Stream: true, Seed: 4}, &policy.Caller{Project: 2, ProjectName: "tutor"}, live)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if diff := cmp.Diff(want, choose()); diff != "" {
					t.Errorf("a choice differs:\n%s", diff)
				}
			}
		})
	}
	all.Wait()
}

func TestFailsClosedForADeploymentItDoesNotKnow(t *testing.T) {
	t.Parallel()
	targets, access, live := fleet(2)
	got := compile(t, targets[:1], installation(logos.Constraints{})).Choose([]*logos.Access{access}, &policy.Request{API: logos.APIChat}, &policy.Caller{}, live)
	if order(got) != "1" || got.Candidates[1].Excluded != policy.NotCompiled {
		t.Errorf("the choice is %+v", got.Candidates)
	}
}
