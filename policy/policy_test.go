package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

var (
	gpt, llama = &logos.Model{ID: 1, Name: "gpt"}, &logos.Model{ID: 2, Name: "llama"}
	openai     = &logos.Provider{ID: 1, Dialect: logos.DialectOpenAI}
	anthropic  = &logos.Provider{ID: 2, Dialect: logos.DialectAnthropic}
)

// candidate is a deployment that can be used; its cluster is called d and its id.
func candidate(id logos.DeploymentID, p *logos.Provider) logos.Candidate {
	d := &logos.Deployment{ID: id, Provider: p.ID}
	return logos.Candidate{Deployment: d, Target: &logos.Target{Cluster: fmt.Sprintf("d%d", id), Provider: p, Deployment: d}}
}

func without(id logos.DeploymentID, reason string) logos.Candidate {
	return logos.Candidate{Deployment: &logos.Deployment{ID: id}, Excluded: reason}
}

type granted map[*logos.Model][]logos.Candidate

// profile grants models in order of id.
func profile(id logos.ProfileID, g granted) *logos.Access {
	a := &logos.Access{Profile: &logos.Profile{ID: id}, Candidates: make(map[logos.ModelID][]logos.Candidate)}
	for _, m := range []*logos.Model{gpt, llama} {
		if candidates, ok := g[m]; ok {
			a.Models = append(a.Models, m.ID)
			a.Candidates[m.ID] = candidates
		}
	}
	return a
}

func TestChoose(t *testing.T) {
	one, two, three, four, five := candidate(1, openai), candidate(2, openai), candidate(3, openai), candidate(4, openai), candidate(5, openai)
	messages := candidate(6, anthropic)
	own := candidate(7, anthropic)
	own.Deployment.APIs = []logos.API{logos.APIChat}
	otherKey := candidate(1, openai) // the same deployment with another profile's credential
	otherKey.Target.Cluster = "d1-other"
	all := func(g ...logos.Candidate) []*logos.Access { return []*logos.Access{profile(1, granted{gpt: g})} }

	for _, c := range []struct {
		name       string
		profiles   []*logos.Access
		model      *logos.Model
		inactive   string
		targets    string // clusters
		profile    logos.ProfileID
		candidates string // ids, with the reason where there is one
		granted    bool
	}{
		{name: "no profile", model: gpt},
		{name: "a profile of no model", profiles: []*logos.Access{profile(1, nil)}},
		{name: "another model", profiles: []*logos.Access{profile(1, granted{llama: {one}})}, model: gpt},
		{name: "a model without deployments", profiles: all(), model: gpt, granted: true},
		{name: "one deployment", profiles: all(one), model: gpt, targets: "d1", profile: 1, candidates: "1", granted: true},
		{name: "as many as a call is given", profiles: all(one, two, three), model: gpt, targets: "d1 d2 d3", profile: 1, candidates: "1 2 3", granted: true},

		{name: "no credential", profiles: all(without(1, policy.NoCredential), two), model: gpt, targets: "d2", profile: 1, candidates: "1:no_credential 2", granted: true},
		{name: "another API", profiles: all(messages, own, one), model: gpt, targets: "d7 d1", profile: 1, candidates: "6:api_not_served 7 1", granted: true},
		{name: "not active", profiles: all(one, two), model: gpt, inactive: "d1", targets: "d2", profile: 1, candidates: "1:not_active 2", granted: true},
		{name: "over the limit", profiles: all(one, two, three, four, five), model: gpt, targets: "d1 d2 d3", profile: 1, candidates: "1 2 3 4:over_limit 5:over_limit", granted: true},
		{name: "over the limit and not active", profiles: all(one, two, three, four), model: gpt, inactive: "d4", targets: "d1 d2 d3", profile: 1, candidates: "1 2 3 4:not_active", granted: true},
		{name: "who is excluded takes no place", profiles: all(one, two, three, four), model: gpt, inactive: "d1", targets: "d2 d3 d4", profile: 1, candidates: "1:not_active 2 3 4", granted: true},
		{name: "the API before activity", profiles: all(messages), model: gpt, inactive: "d6", candidates: "6:api_not_served", granted: true},
		{name: "nothing is left", profiles: all(without(1, policy.NoCredential), two, messages), model: gpt, inactive: "d2", candidates: "1:no_credential 2:not_active 6:api_not_served", granted: true},

		{name: "any model", profiles: []*logos.Access{profile(1, granted{gpt: {two, five}, llama: {one, three}})}, targets: "d1 d2 d3", profile: 1, candidates: "1 2 3 5:over_limit", granted: true},
		{name: "any model of several profiles", profiles: []*logos.Access{profile(1, granted{llama: {three}}), profile(2, granted{gpt: {one}, llama: {two}})}, targets: "d1 d2 d3", profile: 2, candidates: "1 2 3", granted: true},

		{name: "several profiles, by id", profiles: []*logos.Access{profile(1, granted{gpt: {two, four}}), profile(2, granted{gpt: {one, three}})}, model: gpt, targets: "d1 d2 d3", profile: 2, candidates: "1 2 3 4:over_limit", granted: true},
		{name: "only one profile grants it", profiles: []*logos.Access{profile(1, granted{llama: {one}}), profile(2, granted{gpt: {two}})}, model: gpt, targets: "d2", profile: 2, candidates: "2", granted: true},
		{name: "two profiles grant the same", profiles: []*logos.Access{profile(1, granted{gpt: {one, two}}), profile(2, granted{gpt: {one, two}})}, model: gpt, targets: "d1 d2", profile: 1, candidates: "1 2", granted: true},
		{name: "the same with two credentials", profiles: []*logos.Access{profile(1, granted{gpt: {one}}), profile(2, granted{gpt: {otherKey}})}, model: gpt, targets: "d1 d1-other", profile: 1, candidates: "1 1", granted: true},
		{name: "only the second has a credential", profiles: []*logos.Access{profile(1, granted{gpt: {without(1, policy.NoCredential)}}), profile(2, granted{gpt: {one}})}, model: gpt, targets: "d1", profile: 2, candidates: "1:no_credential 1", granted: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := policy.Choose(c.profiles, policy.Request{API: logos.APIChat, Model: c.model}, policy.Live{Active: func(cluster string) bool { return cluster != c.inactive }})
			var targets, candidates []string
			for _, target := range got.Targets {
				targets = append(targets, target.Cluster)
			}
			for _, x := range got.Candidates {
				candidates = append(candidates, strings.TrimSuffix(logos.FormatID(x.Deployment)+":"+x.Excluded, ":"))
			}
			if diff := cmp.Diff(c.targets, strings.Join(targets, " ")); diff != "" {
				t.Errorf("targets differ (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.candidates, strings.Join(candidates, " ")); diff != "" {
				t.Errorf("candidates differ (-want +got):\n%s", diff)
			}
			var by logos.ProfileID
			if got.Profile != nil {
				by = got.Profile.ID
			}
			if by != c.profile || got.Granted != c.granted {
				t.Errorf("granted: %t by profile %d, want %t by %d", got.Granted, by, c.granted, c.profile)
			}
		})
	}
}

func TestSaysWhyATargetIsNotActive(t *testing.T) {
	one, two := candidate(1, openai), candidate(2, openai)
	why := func(t *logos.Target) string { return policy.HostNotAllowed + " " + t.Cluster }
	got := policy.Choose([]*logos.Access{profile(1, granted{gpt: {one, two}})}, policy.Request{API: logos.APIChat, Model: gpt}, policy.Live{Active: func(cluster string) bool { return cluster != "d1" }, Inactive: why})
	want := []logos.DecisionCandidate{{Deployment: 1, Excluded: "host_not_allowed d1"}, {Deployment: 2}}
	if diff := cmp.Diff(want, got.Candidates); diff != "" {
		t.Errorf("candidates differ (-want +got):\n%s", diff)
	}
}

func TestNamesACandidateOnceThatTwoProfilesGrant(t *testing.T) {
	one, two, three, four := candidate(1, openai), candidate(2, openai), candidate(3, openai), candidate(4, openai)
	both := []*logos.Access{profile(1, granted{gpt: {one, two, three, four}}), profile(2, granted{gpt: {one, two, three, four}})}
	for _, inactive := range []string{"", "d1"} {
		got := policy.Choose(both, policy.Request{API: logos.APIChat, Model: gpt}, policy.Live{Active: func(cluster string) bool { return cluster != inactive }})
		if len(got.Candidates) != 4 {
			t.Errorf("with %q inactive, the candidates are %+v, want each of four once", inactive, got.Candidates)
		}
	}
}

func TestChoosingLeavesTheProfilesAsTheyAre(t *testing.T) {
	two, one := candidate(2, openai), candidate(1, openai)
	profiles := []*logos.Access{profile(1, granted{gpt: {two}, llama: {one}}), profile(2, granted{gpt: {one, two}})}
	policy.Choose(profiles, policy.Request{API: logos.APIChat}, policy.Live{Active: func(string) bool { return true }})
	if got := profiles[1].Candidates[gpt.ID]; got[0].Deployment.ID != 1 || got[1].Deployment.ID != 2 || profiles[0].Candidates[gpt.ID][0].Deployment.ID != 2 {
		t.Errorf("the candidates became %+v", got)
	}
}

func TestExplain(t *testing.T) {
	excluded := func(n int) (out []logos.DecisionCandidate) {
		for i := range n {
			out = append(out, logos.DecisionCandidate{Deployment: logos.DeploymentID(i + 1), Excluded: policy.NotActive})
		}
		return out
	}
	for _, c := range []struct {
		name       string
		candidates []logos.DecisionCandidate
		want       string
	}{
		{"no candidate", nil, "it has no deployment"},
		{"one", excluded(1), "deployment 1: not_active"},
		{"every reason", []logos.DecisionCandidate{{Deployment: 3, Excluded: policy.NoCredential}, {Deployment: 4, Excluded: policy.APINotServed}}, "deployment 3: no_credential; deployment 4: api_not_served"},
	} {
		choice := policy.Choice{Candidates: c.candidates}
		if got := choice.Explain(); got != c.want {
			t.Errorf("%s: it says %q, want %q", c.name, got, c.want)
		}
	}
	choice := policy.Choice{Candidates: excluded(21)}
	if got := choice.Explain(); strings.Count(got, ";") != 19 || strings.Contains(got, "21") {
		t.Errorf("of 21 candidates it names %q, want the first 20", got)
	}
}

func TestChoosesWithinTheKeysScopeAlone(t *testing.T) {
	profiles := []*logos.Access{profile(1, granted{gpt: {candidate(1, openai)}, llama: {candidate(2, openai)}}), profile(2, granted{gpt: {candidate(3, openai)}})}
	for _, c := range []struct {
		model   *logos.Model
		scope   []logos.ModelID
		targets string
	}{
		{nil, []logos.ModelID{2}, "d2"}, {nil, []logos.ModelID{1, 9}, "d1 d3"}, {nil, []logos.ModelID{9}, ""}, {gpt, []logos.ModelID{1}, "d1 d3"}, {gpt, []logos.ModelID{2}, ""},
	} {
		choice := policy.Choose(profiles, policy.Request{API: logos.APIChat, Model: c.model, Scope: c.scope}, policy.Live{Active: func(string) bool { return true }})
		var got []string
		for _, target := range choice.Targets {
			got = append(got, target.Cluster)
		}
		if strings.Join(got, " ") != c.targets || choice.Granted != (c.targets != "") || len(choice.Candidates) != len(got) {
			t.Errorf("of model %v in the scope %v, the choice is %v (granted: %t), considering %v; want %s", c.model, c.scope, got, choice.Granted, choice.Candidates, c.targets)
		}
	}
}
