package policy

import (
	"fmt"
	"math"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// notDeclared stands for a value that is not known.
const notDeclared = -1

// explain records every candidate, with the true reason of those that are excluded. Without a set of policies
// the order is that of the candidates, and no rank says it again. Where none is left it also says which reasons may
// be gone in a moment.
func (x *scratch) explain(severalProfiles, ranked, scored bool) (out []logos.DecisionCandidate, passes []bool) {
	out = make([]logos.DecisionCandidate, 0, len(x.candidates))
	var scores []logos.DecisionScore
	if scored {
		scores = make([]logos.DecisionScore, 0, len(x.order))
	}
	for i := range x.candidates {
		c := &x.candidates[i]
		if c.twin {
			continue
		}
		n := len(out)
		out = out[:n+1]
		d := &out[n]
		x.record(d, c)
		if ranked {
			d.Rank = c.rank
		}
		if severalProfiles && c.rank == 0 {
			if d.Policy != 0 {
				d.Profile = c.profile.ID
			}
			if same(out[:n], d) { // under another profile, for the same reason
				out[n], out = logos.DecisionCandidate{}, out[:n]
				continue
			}
		}
		if len(x.order) == 0 {
			passes = append(passes, x.passing(c))
		}
		if scored && c.rank > 0 {
			scores = append(scores, c.score.record())
			d.Score = &scores[len(scores)-1]
		}
	}
	return out, passes
}

// same says whether a candidate was recorded the same way before. Those of one deployment stand together.
func same(before []logos.DecisionCandidate, d *logos.DecisionCandidate) bool {
	for i := len(before) - 1; i >= 0 && before[i].Deployment == d.Deployment; i-- {
		if before[i] == *d {
			return true
		}
	}
	return false
}

// passing says whether what excluded a candidate may be gone in a moment: of demands, what depends on how it does now.
func (x *scratch) passing(c *candidate) bool {
	if c.by == 0 {
		return passing(c.code)
	}
	bit := firstBit(c.breaches)
	for i, st := 0, &x.steps[c.by-1]; i < len(st.rules); i++ {
		if r := &st.rules[i]; r.bit == bit {
			return r.require.scope&scopeLive != 0
		}
	}
	return bit == bitFirstToken
}

// record writes a candidate down.
func (x *scratch) record(d *logos.DecisionCandidate, c *candidate) {
	d.Deployment, d.Excluded = c.Deployment.ID, c.code
	d.FirstToken, d.SlowToken = c.state.FirstToken.Microseconds(), c.state.FirstTokenP95.Microseconds()
	d.Load, d.Stale = float32(c.state.Load), c.state.Stale
	if c.priced() {
		d.Cost, d.Currency, d.Output = c.cost, c.state.Rates.Currency, c.output
	}
	switch c.code {
	case ContextLength:
		d.Have, d.Limit = float64(c.need), float64(c.Target.Model.ContextWindow)
	case Unhealthy:
		d.What = c.state.Unhealthy
	case NoPrice:
		d.What = c.state.NoPrice
	case OverBudget:
		d.What = c.state.OverBudget
	}
	if c.by > 0 {
		x.blame(d, c, &x.steps[c.by-1])
	}
}

// blame says which demand of a policy excluded a candidate, and the values that decided.
func (x *scratch) blame(d *logos.DecisionCandidate, c *candidate, st *step) {
	k, bit := &st.policy.Constraints, firstBit(c.breaches)
	d.Policy, d.Excluded = st.policy.ID, string(st.nameOf(bit))
	switch bit {
	case bitPrivacyZone:
		d.Have, d.Limit = float64(c.facts.provider.PrivacyZone.Effective()), float64(k.MaxPrivacyZone)
	case bitAccess:
		d.What = "allow"
		if deniedBy(k.Deny, c.facts) {
			d.What = "deny"
		}
	case bitLabels:
		d.What = brokenLabel(k.Labels, c.facts).Label
	case bitCapabilities:
		if d.What = missing(k.Capabilities, c.facts); d.What == "" {
			d.What = (x.evaluation.request.uses() &^ c.facts.capabilities).first()
		}
	case bitQuality:
		d.Have, d.Limit, d.What = x.declaration(k.MinQuality, k.MinTaskQuality, c.facts.quality, c.facts.model.TaskQuality)
	case bitAccuracy:
		d.Have, d.Limit, d.What = x.declaration(k.MinAccuracy, k.MinTaskAccuracy, c.facts.accuracy, c.facts.model.TaskAccuracy)
	case bitMaxCost:
		d.Have, d.Limit, d.What = overpriced(st.limits, c)
	case bitFirstToken:
		d.Have, d.Limit = c.state.FirstTokenP95.Seconds(), k.MaxFirstToken.Seconds()
	case bitPriced:
	default:
		blameRule(d, c, st, bit)
	}
}

// declaration returns what is declared, what is needed, and for which task; empty: overall.
func (x *scratch) declaration(least float64, byTask map[string]float64, overall float64, declared map[string]float64) (have, limit float64, task string) {
	if least > 0 && !(overall >= least) {
		return known(overall), least, ""
	}
	task, limit = brokenTask(byTask, x.tasks, overall, declared)
	return known(declaredFor(overall, declared, []string{task})), limit, task
}

func known(v float64) float64 {
	if math.IsNaN(v) {
		return notDeclared
	}
	return v
}

// overpriced returns what a call costs, the limit in its currency, and the currency.
func overpriced(limits []limit, c *candidate) (have, most float64, currency string) {
	if !c.priced() {
		return notDeclared, notDeclared, ""
	}
	currency = c.state.Rates.Currency
	for _, l := range limits {
		if l.currency == currency {
			return units(c.cost), units(l.picos), currency
		}
	}
	return units(c.cost), notDeclared, currency
}

func blameRule(d *logos.DecisionCandidate, c *candidate, st *step, bit uint32) {
	for i := range st.rules {
		r := &st.rules[i]
		if r.bit != bit {
			continue
		}
		d.Excluded, d.What = RuleBroken, r.name
		if c.failures&bit != 0 {
			d.Excluded = RuleFailed
		}
	}
}

// thousandths rounds a component of a score.
func thousandths(v float64) int16 {
	return int16(max(min(math.Round(v*1000), math.MaxInt16), math.MinInt16))
}

func (s *score) record() logos.DecisionScore {
	return logos.DecisionScore{
		Total: int32(math.Round(s.total * 1000)), Cost: thousandths(s.cost), Latency: thousandths(s.latency), Quality: thousandths(s.quality),
		Load: thousandths(s.load), Session: thousandths(s.session), Prefix: thousandths(s.prefix), Held: thousandths(s.held),
	}
}

// facts records what the choice depended on beside the candidates.
func (x *scratch) facts(r *Request, first string, objective logos.PolicyID) *logos.DecisionFacts {
	f := &logos.DecisionFacts{
		Seed: r.Seed, InputTokens: r.InputTokens, OutputTokens: r.OutputTokens, Tools: r.Tools, Images: r.Images, JSONSchema: r.JSONSchema,
		Language: r.Signals.Language, Code: r.Signals.Code, Keywords: r.Signals.Keywords, Tags: r.Signals.Tags,
		SessionHash: r.SessionHash, PrefixHash: r.PrefixHash, SessionDeployment: r.SessionDeployment, PrefixDeployment: r.PrefixServed,
		Incumbent: r.Incumbent, Objective: objective, First: first,
	}
	if len(x.steps) > 0 {
		f.Policies = make([]logos.DecisionPolicy, 0, len(x.steps))
	}
	for i := range x.steps {
		st := &x.steps[i]
		p := logos.DecisionPolicy{ID: st.policy.ID, Revision: st.policy.Revision, Level: st.policy.Level, Skipped: !st.applies}
		if st.profile != nil {
			p.Profile = st.profile.ID
		}
		for left := st.relaxed; left != 0; left &^= firstBit(left) {
			p.Relaxed = append(p.Relaxed, st.nameOf(firstBit(left)))
		}
		f.Policies = append(f.Policies, p)
	}
	return f
}

// Explain says in one line why no candidate was left.
func (c *Choice) Explain() string {
	if len(c.Candidates) == 0 {
		return "it has no deployment"
	}
	reasons := make([]string, 0, min(len(c.Candidates), 20))
	for _, x := range c.Candidates {
		reasons = append(reasons, "deployment "+logos.FormatID(x.Deployment)+": "+Reason(x, c.Facts))
		if len(reasons) == 20 {
			break
		}
	}
	return strings.Join(reasons, "; ")
}

// Reason says why a candidate was excluded, for people: what it has, what was demanded, and who demanded it.
// It is empty for one that was not.
func Reason(c logos.DecisionCandidate, facts *logos.DecisionFacts) string {
	text := c.Excluded
	if detail := detail(c); detail != "" {
		text += ": " + detail
	}
	if c.Policy == 0 || facts == nil {
		return text
	}
	for _, p := range facts.Policies {
		if p.ID == c.Policy {
			return fmt.Sprintf("%s (policy %d, revision %d, of the %s)", text, p.ID, p.Revision, strings.ReplaceAll(strings.ReplaceAll(p.Level.String(), "_", " "), "api", "API"))
		}
	}
	return text
}

// detail shows the values that decided.
func detail(c logos.DecisionCandidate) string {
	switch logos.Constraint(c.Excluded) {
	case logos.ConstraintPrivacyZone:
		return fmt.Sprintf("%s > %s", logos.PrivacyZone(c.Have), logos.PrivacyZone(c.Limit))
	case logos.ConstraintAccess:
		if c.What == "deny" {
			return "on the deny list"
		}
		return "not on the allow list"
	case logos.ConstraintCapabilities:
		return "no " + c.What
	case logos.ConstraintQuality, logos.ConstraintAccuracy:
		return declarationText(c)
	case logos.ConstraintMaxCost:
		return costText(c)
	case logos.ConstraintFirstToken:
		return fmt.Sprintf("%.3gs > %.3gs", c.Have, c.Limit)
	case ContextLength:
		return fmt.Sprintf("%.0f tokens > %.0f", c.Have, c.Limit)
	}
	return c.What // a label, a rule, a budget or why it is unhealthy
}

func declarationText(c logos.DecisionCandidate) string {
	have := "not declared"
	if c.Have != notDeclared {
		have = fmt.Sprintf("%.3g", c.Have)
	}
	text := fmt.Sprintf("%s < %.3g", have, c.Limit)
	if c.What != "" {
		text += " for " + c.What
	}
	return text
}

func costText(c logos.DecisionCandidate) string {
	switch {
	case c.What == "":
		return "it has no price"
	case c.Limit == notDeclared:
		return "there is no limit in " + c.What
	}
	return fmt.Sprintf("%.6g > %.6g %s", c.Have, c.Limit, c.What)
}
