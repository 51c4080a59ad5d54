package extproc

import (
	"maps"
	"slices"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

// A wish is what a call asks for.
type wish struct {
	model  *logos.Model // nil: any that the call may use
	policy string       // that it names; empty: none
}

// wish finds out what a call names: a model, a policy, or any model at all.
func (c *call) wish(name string) (w wish, err error) {
	w.policy, err = c.namedPolicy()
	switch {
	case err != nil, c.policy != "":
		return w, err
	case name == "":
		return w, logos.Errorf(logos.Invalid, "model_required", "the request names no model: set \"model\" to one that GET /v1/models lists, or to \"auto\"")
	}
	if w.model = c.config.Model(name); w.model == nil {
		switch {
		case name == policy.Auto:
			return w, nil
		case c.snapshot.policies.Has(name, c.asks(), c.profiles):
			w.policy = name
			return w, nil
		}
		return w, logos.Errorf(logos.NotFound, "model_not_found", "there is no model %.256q: GET /v1/models lists those that this key may use", name)
	}
	for _, p := range c.profiles {
		if _, ok := p.Candidates[w.model.ID]; ok && c.key.AllowsModel(w.model.ID) {
			return w, nil
		}
	}
	return w, c.modelDenied(name)
}

// namedPolicy returns the policy that the header x-logos-policy names; empty: none.
func (c *call) namedPolicy() (string, error) {
	switch {
	case c.policy == "", strings.EqualFold(c.policy, policy.Auto):
		return "", nil
	case !c.snapshot.policies.Has(c.policy, c.asks(), c.profiles):
		return "", logos.Errorf(logos.NotFound, "policy_not_found", "there is no policy %.100q for this API key: leave out the header x-logos-policy, or name %q or a policy of the installation or of the key's team, project or profile", c.policy, policy.Auto)
	}
	return c.policy, nil
}

// asks tells policies who calls. A label of the team is not the project's to change, nor that of either the key's: else
// whom a policy is about could leave it.
func (c *call) asks() *policy.Caller {
	if c.asker != nil {
		return c.asker
	}
	k, p := c.key, c.project
	a := &policy.Caller{
		Team: p.TeamID, Project: p.ID, Key: k.ID, ProjectName: p.Name, KeyName: k.Name,
		Labels: joined(k.Labels, p.Labels), HasEndUser: c.user != "",
	}
	if t := c.config.Team(p.TeamID); t != nil {
		a.TeamName, a.Labels = t.Name, joined(a.Labels, t.Labels)
	}
	if len(c.profiles) == 1 && (c.profile != "" || k.ProfileID != 0) {
		a.Profile, a.ProfileName = c.profiles[0].ID, c.profiles[0].Name
	}
	c.asker = a
	return a
}

// joined returns the labels of both; those of the second win.
func joined(a, b map[string]string) map[string]string {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// chooseAndClaim chooses targets, and claims those that are offered to one call alone. If another call was quicker, it
// chooses anew, and finds them out of reach.
func (c *call) chooseAndClaim(w wish, parsed *dialect.Request, body []byte, name string) (choice policy.Choice) {
	for range maxTries {
		c.offered = c.offered[:0]
		if choice = c.choose(w, parsed, body, name); c.claim(choice.Targets) {
			break
		}
	}
	return choice
}

// claim claims those of the targets that were offered. It is never asked by what is only explained.
func (c *call) claim(targets []*logos.Target) bool {
	for _, t := range targets {
		if !slices.Contains(c.offered, t) || c.server.cfg.Claim == nil {
			continue
		}
		if !c.server.cfg.Claim(t) {
			return false
		}
		c.claimed = append(c.claimed, t)
	}
	return true
}

// choose asks the policies. What a prompt holds is read only where something depends on it.
func (c *call) choose(w wish, parsed *dialect.Request, body []byte, name string) policy.Choice {
	s := c.server
	set := c.snapshot.policies
	r := policy.Request{
		API: c.route.API, Model: w.model, Scope: c.key.Models, Policy: w.policy, Name: name, Stream: parsed.Stream,
		MaxTokens: parsed.OutputLimit(c.route.API), Answers: parsed.AnswersOf(c.route.API, body),
	}
	live := policy.Live{Active: s.active, Inactive: s.cfg.Inactive, State: c.state(set != nil)}
	if set == nil {
		if w.model == nil || w.model.ContextWindow > 0 {
			content := c.prompt(parsed, body)
			r.InputTokens, r.LongestInput = content.Tokens, content.Longest
		}
		return set.Choose(c.profiles, &r, &policy.Caller{}, live)
	}
	c.read(&r, c.prompt(parsed, body))
	caller := c.asks()
	caller.HasEndUser = caller.HasEndUser || parsed.User != ""
	r.Seed = c.seed
	if r.Seed == 0 {
		r.Seed = policy.Seed(c.id)
	}
	key := incumbentKey{c.project.ID, w.policy, w.modelID()}
	r.Incumbent = s.incumbents.get(key)
	choice := set.Choose(c.profiles, &r, caller, live)
	if len(choice.Targets) > 0 && choice.Facts.Objective != 0 && choice.Facts.First == "" && !c.explains {
		s.incumbents.chosen(key, r.Incumbent, choice.Targets[0].Deployment.ID)
	}
	return choice
}

// prompt returns what the body holds, which is read once.
func (c *call) prompt(parsed *dialect.Request, body []byte) *dialect.Content {
	if c.content == nil {
		content := parsed.Content(body)
		c.content = &content
	}
	return c.content
}

// read takes what the prompt holds.
func (c *call) read(r *policy.Request, content *dialect.Content) {
	r.InputTokens, r.LongestInput, r.Tools, r.Images, r.JSONSchema = content.Tokens, content.Longest, content.Tools, content.Images, content.JSONSchema
	r.Signals = c.snapshot.signals.Extract(signals.Text{System: content.System, User: content.User})
	if c.session != "" {
		r.SessionHash = policy.Hash(logos.FormatID(c.project.ID) + " " + c.session)
		r.SessionDeployment = c.server.affinity.served(r.SessionHash)
	}
	if content.Prefix != nil {
		r.PrefixHash = policy.Hash(content.Prefix)
		r.PrefixServed = c.server.affinity.served(r.PrefixHash)
	}
}

// state returns what is known of targets, of budgets too. Prices and the expected lengths of answers serve policies alone.
func (c *call) state(policies bool) func(*logos.Target, int64) policy.State {
	measured, output := c.measured(), c.server.cfg.OutputTokens
	if !policies && c.spending == nil {
		return measured
	}
	now := c.server.cfg.Now()
	return func(t *logos.Target, inputTokens int64) (state policy.State) {
		if measured != nil {
			state = measured(t, inputTokens)
		}
		if c.spending != nil {
			c.exclude(&state, t)
		}
		if !policies {
			return state
		}
		if output != nil {
			state.OutputTokens = output(c.project.ID, t.Model.ID)
		}
		if state.Rates == nil {
			state.Rates = c.snapshot.prices.rates(t, c.route.API, inputTokens, now)
		}
		return state
	}
}

// measured returns what is known of targets, beside budgets.
func (c *call) measured() func(*logos.Target, int64) policy.State {
	ask, peek := c.server.cfg.State, c.server.cfg.Peek
	if c.explains || ask == nil {
		return peek
	}
	return func(t *logos.Target, inputTokens int64) policy.State {
		if slices.Contains(c.claimed, t) {
			return peek(t, inputTokens)
		}
		state := ask(t, inputTokens)
		if state.Offered {
			c.offered = append(c.offered, t)
		}
		return state
	}
}

func (w *wish) modelID() logos.ModelID {
	if w.model == nil {
		return 0
	}
	return w.model.ID
}

// Each call carries its decision, so scores are recorded of the targets alone; the others follow from the figures.
// Candidates are recorded with their figures up to detailed of them, then with their reason, and only counted beyond
// listedCandidates.
const (
	detailed         = 32
	listedCandidates = 512
)

// record writes down what a choice considered; in full where the decision is all that is wanted.
func record(d *logos.Decision, choice *policy.Choice, full bool) {
	d.Candidates, d.Facts = choice.Candidates, choice.Facts
	if full {
		return
	}
	for i := range d.Candidates {
		if x := &d.Candidates[i]; x.Rank > policy.MaxTargets {
			x.Score = nil
		}
	}
	if len(d.Candidates) <= detailed {
		return
	}
	kept := make([]logos.DecisionCandidate, 0, min(len(d.Candidates), listedCandidates))
	figures := 0
	for i := range d.Candidates {
		x := &d.Candidates[i]
		switch {
		case x.Rank > 0 && x.Rank <= policy.MaxTargets || figures < detailed && len(kept) < listedCandidates:
			figures++
			kept = append(kept, *x)
		case len(kept) < listedCandidates:
			kept = append(kept, logos.DecisionCandidate{Deployment: x.Deployment, Excluded: x.Excluded, Policy: x.Policy, Profile: x.Profile, Rank: x.Rank})
		default:
			d.MoreCandidates++
		}
	}
	d.Candidates = kept
}
