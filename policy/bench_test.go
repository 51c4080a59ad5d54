package policy_test

import (
	"fmt"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

// fleet makes deployments that meet what the policies below demand, but for every fourth.
func fleet(n int) (targets []*logos.Target, access *logos.Access, live policy.Live) {
	access = &logos.Access{Profile: &logos.Profile{ID: 1, ProjectID: 2}, Candidates: make(map[logos.ModelID][]logos.Candidate)}
	states := make([]policy.State, n+1)
	credential := &logos.Credential{ID: 1}
	for i := 1; i <= n; i++ {
		quality := 0.5 + float64(i%10)/20
		m := &logos.Model{ID: logos.ModelID(i), Name: fmt.Sprintf("m%d", i), ContextWindow: 128000, Quality: &quality, Capabilities: []string{"tools", "vision"}}
		p := &logos.Provider{ID: logos.ProviderID(i%7 + 1), Name: "p", Dialect: logos.DialectOpenAI, BaseURL: &url.URL{Scheme: "https", Host: "example.org"}, PrivacyZone: logos.PrivacyZone(i%4 + 1)}
		d := &logos.Deployment{ID: logos.DeploymentID(i), Model: m.ID, Provider: p.ID, Labels: map[string]string{"tier": "gold"}}
		t := &logos.Target{Cluster: fmt.Sprintf("d%d", i), Provider: p, Model: m, Deployment: d, Credential: credential}
		targets = append(targets, t)
		access.Models = append(access.Models, m.ID)
		access.Candidates[m.ID] = []logos.Candidate{{Deployment: d, Target: t}}
		rates, _ := policy.NewRates("EUR", decimal.New(int64(i), -7), decimal.New(int64(4*i), -7), decimal.Zero)
		states[i] = policy.State{FirstToken: time.Duration(i) * 10 * time.Millisecond, FirstTokenP95: time.Duration(i) * 20 * time.Millisecond, Load: float64(i%9) / 10, Rates: rates, Stale: i%5 == 0}
	}
	return targets, access, policy.Live{
		Active: func(string) bool { return true },
		State:  func(t *logos.Target, _ int64) policy.State { return states[t.Deployment.ID] },
	}
}

// house is what an organisation may set up: constraints and an objective on the installation, and five
// expressions on it and a project.
func house() []*logos.Policy {
	return []*logos.Policy{
		{
			ID: 1, Level: logos.LevelInstallation,
			Constraints: logos.Constraints{MaxPrivacyZone: logos.ZoneEUByUS, RequireUsed: true, MaxCost: []logos.Money{{Amount: decimal.New(1, 0), Currency: "EUR"}}, MaxFirstToken: 3 * time.Second},
			Rules: []logos.Rule{
				{Name: "tier", Require: `candidate.labels["tier"] in ["gold", "silver"]`},
				{Name: "images", When: "request.images", Require: `"vision" in candidate.capabilities`},
			},
			Relax:     []logos.Constraint{logos.ConstraintFirstToken, logos.ConstraintMaxCost},
			Objective: &logos.Objective{Cost: 1, Latency: 1, Quality: 2, Load: 1, SessionBonus: 0.1, Tolerance: 0.02, Exploration: 0.01},
		},
		{
			ID: 2, Level: logos.LevelProject, Owner: 2, When: `request.stream && caller.project == "tutor"`,
			Rules: []logos.Rule{
				{Name: "cost", Kind: logos.RulePreference, Require: "candidate.cost < 0.5 || candidate.quality > 0.9"},
				{Name: "room", Require: "candidate.context_window > request.input_tokens * 2"},
				{Name: "code", When: "request.code", Require: "candidate.quality >= 0.5 && !candidate.model.startsWith('old')"},
			},
		},
	}
}

// cpuTime reports the processor time of an iteration: on a busy machine the clock says little.
func cpuTime(b *testing.B) func() {
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	return func() {
		syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		spent := after.Utime.Nano() - before.Utime.Nano() + after.Stime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
	}
}

func benchmarkChoose(b *testing.B, n int, policies []*logos.Policy) {
	targets, access, live := fleet(n)
	set, err := policy.Compile(targets, policies, nil)
	if err != nil {
		b.Fatal(err)
	}
	r := &policy.Request{API: logos.APIChat, Stream: true, Tools: true, InputTokens: 1200, MaxTokens: 800, OutputTokens: 300, SessionHash: 7, Seed: 9, Signals: signals.Signals{Language: "en", Code: true}}
	caller := &policy.Caller{Project: 2, ProjectName: "tutor", Key: 4}
	profiles := []*logos.Access{access}
	b.ReportAllocs()
	defer cpuTime(b)()
	for b.Loop() {
		if c := set.Choose(profiles, r, caller, live); len(c.Targets) != policy.MaxTargets {
			b.Fatal(c.Explain())
		}
	}
}

func BenchmarkChoose10(b *testing.B)  { benchmarkChoose(b, 10, house()) }
func BenchmarkChoose100(b *testing.B) { benchmarkChoose(b, 100, house()) }

// BenchmarkChoose100Live has no expression that the configuration alone decides.
func BenchmarkChoose100Live(b *testing.B) {
	policies := house()
	policies[0].Rules = []logos.Rule{
		{Name: "load", Require: "candidate.load < 0.95"},
		{Name: "soon", Require: `candidate.time_to_first_token < duration("5s")`},
	}
	policies[1].Rules[2].Require = "candidate.cost * 2.0 < 1.0"
	benchmarkChoose(b, 100, policies)
}

func BenchmarkChoose100NoPolicy(b *testing.B) { benchmarkChoose(b, 100, nil) }

func BenchmarkCompile(b *testing.B) {
	targets, _, _ := fleet(100)
	first, err := policy.Compile(targets, house(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := policy.Compile(targets, house(), first); err != nil {
			b.Fatal(err)
		}
	}
}
