package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

func TestChecksPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy logos.Policy
		want   string // empty: nothing is wrong
	}{
		{logos.Policy{}, ""},
		{*house()[0], ""},
		{*house()[1], ""},
		{logos.Policy{Level: 9, Owner: 1}, "level: there is no such level"},
		{logos.Policy{Level: logos.LevelTeam}, "owner: "},
		{logos.Policy{Owner: 3}, "owner: "},
		{logos.Policy{OnRequest: true}, "name: "},
		{logos.Policy{Constraints: logos.Constraints{MaxPrivacyZone: 9}}, "constraints.max_privacy_zone: "},
		{logos.Policy{Constraints: logos.Constraints{MinQuality: 1.5}}, "constraints.min_quality: use a number from 0 to 1"},
		{logos.Policy{Constraints: logos.Constraints{MinTaskAccuracy: map[string]float64{"x": -1}}}, `constraints.min_task_accuracy["x"]: `},
		{logos.Policy{Constraints: logos.Constraints{MaxFirstToken: -time.Second}}, "constraints.max_time_to_first_token: "},
		{logos.Policy{Constraints: logos.Constraints{MaxCost: []logos.Money{{Amount: decimal.New(1, 0), Currency: "euro"}}}}, "constraints.max_cost[0]: "},
		{logos.Policy{Constraints: logos.Constraints{MaxCost: []logos.Money{{Amount: decimal.New(1, 900000000), Currency: "EUR"}}}}, "constraints.max_cost[0]: use an amount"},
		{logos.Policy{Constraints: logos.Constraints{MaxCost: []logos.Money{{Currency: "EUR"}, {Currency: "EUR"}}}}, "constraints.max_cost[1]: there is a limit in EUR already"},
		{logos.Policy{Constraints: logos.Constraints{Labels: []logos.LabelRequirement{{Label: "x", Operator: "like"}}}}, "constraints.labels[0]: "},
		{logos.Policy{Constraints: logos.Constraints{Labels: []logos.LabelRequirement{{Label: "x", Operator: logos.LabelIn}}}}, "constraints.labels[0]: the operator in needs values"},
		{logos.Policy{Rules: []logos.Rule{{Name: "X", Require: "true"}}}, "rules[0].name: "},
		{logos.Policy{Rules: []logos.Rule{{Name: "x", Require: "true"}, {Name: "x", Require: "true"}}}, "rules[1].name: "},
		{logos.Policy{Rules: []logos.Rule{{Name: "x"}}}, "rules[0].require: "},
		{logos.Policy{Rules: []logos.Rule{{Name: "x", Kind: "y", Require: "true"}}}, "rules[0].kind: "},
		{logos.Policy{Rules: []logos.Rule{{Name: "x", Require: "candidate.cost"}}}, "rules[0].require, line 1, column 1: "},
		{logos.Policy{Rules: []logos.Rule{{Name: "x", When: "candidate.priced", Require: "true"}}}, "rules[0].when, line 1, column 1: candidate.priced can't be used here"},
		{logos.Policy{When: "request.stream +"}, "when, line 1, column "},
		{logos.Policy{Rules: make([]logos.Rule, 17)}, "rules: there are 17"},
		{logos.Policy{Relax: []logos.Constraint{logos.ConstraintPrivacyZone}}, "relax[0]: privacy_zone is never relaxed"},
		{logos.Policy{Relax: []logos.Constraint{logos.ConstraintQuality}}, "relax[0]: this policy has no constraint"},
		{logos.Policy{Rules: []logos.Rule{{Name: "x", Require: "true"}}, Relax: []logos.Constraint{"rule:x"}}, "relax[0]: the rule x protects"},
		{logos.Policy{Rules: []logos.Rule{{Name: "x", Kind: logos.RulePreference, Require: "true"}}, Relax: []logos.Constraint{"rule:x"}}, ""},
		{logos.Policy{Objective: &logos.Objective{Cost: -1}}, "objective.cost: "},
		{logos.Policy{Objective: &logos.Objective{Exploration: 0.2}}, "objective.exploration: "},
		{logos.Policy{Objective: &logos.Objective{Canaries: []logos.Canary{{Percent: 60}, {Percent: 50}}}}, "objective.canaries: "},
		{logos.Policy{Attempts: logos.AttemptLimits{On: []logos.RetryCondition{"moon"}}}, "attempts.on: "},
	} {
		found, err := policy.Check(&c.policy)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.want == "" && len(found) > 0:
			t.Errorf("%+v has the problems %v", c.policy, found)
		case c.want != "" && (len(found) == 0 || !strings.HasPrefix(found[0].String(), c.want)):
			t.Errorf("%+v has the problems %v, want %q", c.policy, found, c.want)
		}
		if _, err := policy.Compile(nil, []*logos.Policy{&c.policy}, nil); (err != nil) != (c.want != "") {
			t.Errorf("compiling %+v: %v", c.policy, err)
		}
	}
}

func TestImportsTheOriginalsThresholds(t *testing.T) {
	t.Parallel()
	zero, four := 0, 4
	p, err := policy.Thresholds{Name: "math", Privacy: "CLOUD_IN_EU_BY_US_PROVIDER", Cost: &zero, Quality: &four, Priority: 3, Topic: "analysis"}.Import(2)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := policy.Check(p); err != nil || len(found) > 0 {
		t.Fatal(err, found)
	}
	if p.Constraints.MaxPrivacyZone != logos.ZoneEUByUS || *p.Scheduling.Priority != 3 || p.Labels[policy.LabelTopic] != "analysis" || p.Owner != 2 {
		t.Errorf("the policy is %+v", p)
	}
	targets, access, live := fleet(5)
	for i, weights := range []map[string]string{
		{policy.LabelWeightCost: "0", policy.LabelWeightQuality: "4"}, {policy.LabelWeightCost: "-1", policy.LabelWeightQuality: "8"},
		{policy.LabelWeightCost: "2"}, nil, {policy.LabelWeightCost: "8", policy.LabelWeightQuality: "5"},
	} {
		targets[i].Model.Labels = weights
		targets[i].Provider.PrivacyZone = logos.ZoneEUByUS
	}
	targets[4].Provider.PrivacyZone = logos.ZoneAnywhere
	got := compile(t, targets, p).Choose([]*logos.Access{access}, &policy.Request{API: logos.APIChat, Policy: "math"}, &policy.Caller{Project: 2}, live)
	if order(got) != "1" {
		t.Errorf("it chooses %s: %s", order(got), got.Explain())
	}
	for _, text := range []string{"LOCAL", "", "CLOUD_IN_EU_BY_EU_PROVIDER", "CLOUD_NOT_IN_EU_BY_US_PROVIDER"} {
		if _, err := (policy.Thresholds{Name: "x", Privacy: text}).Import(2); err != nil {
			t.Error(err)
		}
	}
	if _, err := (policy.Thresholds{Privacy: "MOON"}).Import(2); logos.KindOf(err) != logos.Invalid {
		t.Errorf("an unknown zone gives %v", err)
	}
}
