package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

// A world is a configuration made by chance, with what is measured in it.
type world struct {
	*rand.Rand
	providers []*logos.Provider
	models    []*logos.Model
	targets   []*logos.Target
	states    map[logos.DeploymentID]policy.State
	rates     map[logos.DeploymentID][2]decimal.Decimal // of input and output
	inactive  map[string]bool
	profiles  []*logos.Access
	policies  []*logos.Policy
	caller    policy.Caller
}

func newWorld(seed uint64) *world {
	w := &world{
		Rand: rand.New(rand.NewPCG(seed, 1)), states: make(map[logos.DeploymentID]policy.State), rates: make(map[logos.DeploymentID][2]decimal.Decimal), inactive: make(map[string]bool),
		caller: policy.Caller{Team: 3, Project: 2, Key: 5, ProjectName: "tutor"},
	}
	if w.maybe() {
		w.caller.Labels = map[string]string{"course": "pse"}
	}
	for i := range 4 {
		w.providers = append(w.providers, &logos.Provider{
			ID: logos.ProviderID(i + 1), Name: fmt.Sprintf("p%d", i+1), BaseURL: &url.URL{Scheme: "https", Host: "example.org"},
			Dialect: pick(w, logos.DialectOpenAI, logos.DialectOpenAI, logos.DialectAnthropic), PrivacyZone: logos.PrivacyZone(w.IntN(5)),
		})
	}
	for i := range 4 {
		m := &logos.Model{ID: logos.ModelID(i + 1), Name: fmt.Sprintf("m%d", i+1), ContextWindow: pick(w, int64(0), 1000, 8000, 100000), Quality: w.declared(), Accuracy: w.declared()}
		for _, name := range []string{"tools", "vision", "json_schema", "audio"} {
			if w.IntN(3) > 0 {
				m.Capabilities = append(m.Capabilities, name)
			}
		}
		if w.maybe() {
			m.TaskQuality = map[string]float64{"code": w.Float64(), "math": w.Float64()}
		}
		if w.maybe() {
			m.TaskAccuracy = map[string]float64{"math": w.Float64()}
		}
		w.models = append(w.models, m)
	}
	for i := range 2 + w.IntN(10) {
		w.addTarget(logos.DeploymentID(i + 1))
	}
	w.grant()
	return w
}

func (w *world) maybe() bool { return w.IntN(2) == 0 }

func (w *world) declared() *float64 {
	if w.IntN(4) == 0 {
		return nil
	}
	v := w.Float64()
	return &v
}

func pick[T any](w *world, list ...T) T { return list[w.IntN(len(list))] }

func (w *world) addTarget(id logos.DeploymentID) {
	p, m := pick(w, w.providers...), pick(w, w.models...)
	d := &logos.Deployment{ID: id, Model: m.ID, Provider: p.ID}
	if w.maybe() {
		d.Labels = map[string]string{"tier": pick(w, "gold", "silver")}
	}
	t := &logos.Target{Cluster: fmt.Sprintf("d%d", id), Provider: p, Model: m, Deployment: d, Credential: &logos.Credential{ID: 1}}
	w.targets = append(w.targets, t)
	s := policy.State{Load: float64(w.IntN(100)) / 100, Stale: w.maybe()}
	if w.IntN(3) > 0 {
		s.FirstTokenP95 = time.Duration(1+w.IntN(3000)) * time.Millisecond
		s.FirstToken = s.FirstTokenP95 / 2
	}
	if w.IntN(3) > 0 {
		w.rates[id] = [2]decimal.Decimal{decimal.New(int64(w.IntN(20)), -6), decimal.New(int64(w.IntN(60)), -6)}
		s.Rates, _ = policy.NewRates(pick(w, "EUR", "USD"), w.rates[id][0], w.rates[id][1], decimal.Zero)
	}
	if w.IntN(10) == 0 {
		s.Unhealthy = "breaker_open"
	}
	if w.IntN(10) == 0 {
		s.OverBudget = "monthly"
	}
	w.states[id] = s
	w.inactive[t.Cluster] = w.IntN(10) == 0
}

// grant makes one or two profiles of what there is.
func (w *world) grant() {
	w.profiles = nil
	for i := range 1 + w.IntN(2) {
		a := &logos.Access{Profile: &logos.Profile{ID: logos.ProfileID(i + 1), ProjectID: 2}, Candidates: make(map[logos.ModelID][]logos.Candidate)}
		for _, m := range w.models {
			a.Models = append(a.Models, m.ID)
			a.Candidates[m.ID] = nil
			for _, t := range w.targets {
				switch {
				case t.Model != m || w.IntN(5) == 0:
				case w.IntN(12) == 0:
					a.Candidates[m.ID] = append(a.Candidates[m.ID], logos.Candidate{Deployment: t.Deployment, Excluded: policy.NoCredential})
				default:
					a.Candidates[m.ID] = append(a.Candidates[m.ID], logos.Candidate{Deployment: t.Deployment, Target: t})
				}
			}
		}
		w.profiles = append(w.profiles, a)
	}
}

func (w *world) live() policy.Live {
	return policy.Live{
		Active: func(cluster string) bool { return !w.inactive[cluster] },
		State:  func(t *logos.Target, _ int64) policy.State { return w.states[t.Deployment.ID] },
	}
}

func (w *world) request() *policy.Request {
	r := &policy.Request{
		API: logos.APIChat, Name: "auto", Stream: w.maybe(), Tools: w.maybe(), Images: w.IntN(4) == 0, JSONSchema: w.IntN(4) == 0,
		InputTokens: int64(w.IntN(6000)), MaxTokens: pick(w, int64(0), 100, 2000), OutputTokens: int64(w.IntN(800)), Seed: w.Uint64(),
		Signals: signals.Signals{Language: pick(w, "", "de", "en"), Code: w.maybe()},
	}
	if w.maybe() {
		r.Signals.Keywords = []string{"math"}
	}
	if w.maybe() {
		r.Model = pick(w, w.models...)
	}
	if w.maybe() {
		r.Policy = "named"
	}
	if w.maybe() {
		r.SessionHash = w.Uint64()
	}
	return r
}

// rules are expressions, with what they mean.
var rules = []struct {
	text string
	mean func(c *subject) *bool // nil: it fails
}{
	{`candidate.quality >= 0.5`, func(c *subject) *bool { return atLeast(c.t.Model.Quality, 0.5) }},
	{`candidate.zone in ["local", "eu_eu"]`, func(c *subject) *bool {
		return yes(c.t.Provider.PrivacyZone == logos.ZoneLocal || c.t.Provider.PrivacyZone == logos.ZoneEUByEU)
	}},
	{`!request.images || "vision" in candidate.capabilities`, func(c *subject) *bool { return yes(!c.r.Images || has(c.t.Model.Capabilities, "vision")) }},
	{`candidate.cost < 0.01 || candidate.zone == "local"`, func(c *subject) *bool {
		cost := c.cost()
		switch {
		case cost != nil && cost.LessThan(decimal.New(1, -2)), c.t.Provider.PrivacyZone == logos.ZoneLocal:
			return yes(true)
		case cost == nil:
			return nil
		}
		return yes(false)
	}},
	{`candidate.labels["tier"] == "gold"`, func(c *subject) *bool {
		if v, ok := c.t.Deployment.Labels["tier"]; ok {
			return yes(v == "gold")
		}
		return nil
	}},
	{`request.code ? candidate.model.startsWith("m1") : true`, func(c *subject) *bool { return yes(!c.r.Signals.Code || c.t.Model.Name == "m1") }},
	{`candidate.load < 0.7 && candidate.context_window > request.input_tokens * 2`, func(c *subject) *bool {
		switch {
		case c.s.Load >= 0.7:
			return yes(false)
		case c.t.Model.ContextWindow == 0:
			return nil
		}
		return yes(c.t.Model.ContextWindow > c.r.InputTokens*2)
	}},
	{`candidate.provider_id != caller.project_id && !(candidate.priced && candidate.currency == "USD")`, func(c *subject) *bool {
		return yes(c.t.Provider.ID != 2 && (c.s.Rates == nil || c.s.Rates.Currency != "USD"))
	}},
}

// conditions are expressions over request and caller, with what they mean.
var conditions = []struct {
	text string
	mean func(r *policy.Request, c *policy.Caller) bool
}{
	{"", func(*policy.Request, *policy.Caller) bool { return true }},
	{"", func(*policy.Request, *policy.Caller) bool { return true }},
	{"request.tools", func(r *policy.Request, _ *policy.Caller) bool { return r.Tools }},
	{"request.input_tokens > 1000 || request.code", func(r *policy.Request, _ *policy.Caller) bool { return r.InputTokens > 1000 || r.Signals.Code }},
	{`caller.labels["course"] == "other"`, func(_ *policy.Request, c *policy.Caller) bool { return c.Labels == nil }}, // fails without labels, and so holds
	{`"math" in request.keywords && request.language != "de"`, func(r *policy.Request, _ *policy.Caller) bool {
		return len(r.Signals.Keywords) > 0 && r.Signals.Language != "de"
	}},
}

func yes(v bool) *bool { return &v }

func atLeast(v *float64, least float64) *bool {
	if v == nil {
		return nil
	}
	return yes(*v >= least)
}

func has(list []string, name string) bool {
	for _, x := range list {
		if x == name {
			return true
		}
	}
	return false
}

func (w *world) policy(id logos.PolicyID, level logos.PolicyLevel, owner int64) *logos.Policy {
	p := &logos.Policy{ID: id, Name: "named", Revision: int64(w.IntN(100)), Level: level, Owner: owner, OnRequest: w.IntN(6) == 0, When: pick(w, conditions...).text}
	w.constrain(&p.Constraints)
	for i := range w.IntN(3) {
		p.Rules = append(p.Rules, logos.Rule{Name: fmt.Sprintf("r%d", i), Kind: pick(w, logos.RuleAccess, logos.RulePrivacy, logos.RulePreference), When: pick(w, conditions...).text, Require: pick(w, rules...).text})
	}
	if w.maybe() {
		w.relax(p)
	}
	if w.maybe() {
		p.Objective = &logos.Objective{Cost: w.Float64(), Latency: w.Float64(), Quality: w.Float64(), Load: w.Float64(), SessionBonus: w.Float64(), Hysteresis: 0.05}
	}
	p.Attempts.Max = pick(w, 0, 0, 1, 2, 5)
	return p
}

func (w *world) constrain(c *logos.Constraints) {
	often := func(n int) bool { return w.IntN(n) == 0 }
	if often(3) {
		c.MaxPrivacyZone = logos.PrivacyZone(1 + w.IntN(4))
	}
	if often(5) {
		c.Allow.Models = []logos.ModelID{1, logos.ModelID(1 + w.IntN(4)), 3}
	}
	if often(8) {
		c.Allow.Providers = []logos.ProviderID{1, 2, 3}
	}
	if often(5) {
		c.Deny.Deployments = []logos.DeploymentID{logos.DeploymentID(1 + w.IntN(6))}
	}
	if often(6) {
		c.Labels = []logos.LabelRequirement{{Label: "tier", Operator: pick(w, logos.LabelIn, logos.LabelNotIn), Values: []string{"gold"}}}
	}
	if often(6) {
		c.Labels = append(c.Labels, logos.LabelRequirement{Label: "tier", Operator: pick(w, logos.LabelExists, logos.LabelNotExists)})
	}
	if often(6) {
		c.Capabilities = []string{pick(w, "tools", "audio")}
	}
	c.RequireUsed = often(4)
	if often(5) {
		c.MinQuality = w.Float64() / 2
	}
	if often(5) {
		c.MinAccuracy = w.Float64() / 2
	}
	if often(5) {
		c.MinTaskQuality = map[string]float64{"code": w.Float64() / 2, "math": w.Float64() / 2}
	}
	if often(5) {
		c.MinTaskAccuracy = map[string]float64{"math": w.Float64() / 2}
	}
	if often(4) {
		c.MaxCost = []logos.Money{{Amount: decimal.New(int64(w.IntN(50)), -3), Currency: "EUR"}}
	}
	if c.MaxCost != nil && w.maybe() {
		c.MaxCost = append(c.MaxCost, logos.Money{Amount: decimal.New(int64(w.IntN(50)), -3), Currency: "USD"})
	}
	c.DenyUnpriced = often(6)
	if often(4) {
		c.MaxFirstToken = time.Duration(w.IntN(3000)+1) * time.Millisecond
	}
}

func (w *world) relax(p *logos.Policy) {
	names := []logos.Constraint{
		logos.ConstraintLabels, logos.ConstraintCapabilities, logos.ConstraintQuality, logos.ConstraintAccuracy, logos.ConstraintPriced,
		logos.ConstraintMaxCost, logos.ConstraintFirstToken,
	}
	for _, r := range p.Rules {
		if r.Kind == logos.RulePreference {
			names = append(names, logos.RuleConstraint(r.Name))
		}
	}
	w.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, n := range names {
		if p.Demands(n) && w.IntN(3) > 0 {
			p.Relax = append(p.Relax, n)
		}
	}
}

// govern gives the world policies on some levels.
func (w *world) govern() {
	w.policies = nil
	for i, o := range []struct {
		level logos.PolicyLevel
		id    int64
	}{
		{logos.LevelInstallation, 0}, {logos.LevelTeam, 3}, {logos.LevelProject, 2}, {logos.LevelProject, 2}, {logos.LevelProfile, 1}, {logos.LevelProfile, 2},
		{logos.LevelAPIKey, 5}, {logos.LevelAPIKey, 6}, {logos.LevelTeam, 9},
	} {
		if w.IntN(3) == 0 {
			w.policies = append(w.policies, w.policy(logos.PolicyID(i+1), o.level, o.id))
		}
	}
}

func compile(t testing.TB, targets []*logos.Target, policies ...*logos.Policy) *policy.Set {
	t.Helper()
	s, err := policy.Compile(targets, policies, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
