package extproc

import (
	"cmp"
	"context"
	"crypto/rand"
	"math"
	"slices"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// A spending is what budgets have to say about a call that they count.
type spending struct {
	*budget.Call
	bounds dialect.Bounds
	size   budget.Size
	short  *budget.Shortage // why it can't be sent, or not everywhere
}

// maxTries is how often a call is decided anew because what was left of a budget has changed meanwhile.
const maxTries = 3

// spends finds the budgets that count a call of a model API.
func (c *call) spends(d *logos.Decision, parsed *dialect.Request, body []byte) {
	if c.spending = c.counted(d); c.spending == nil {
		return
	}
	b := parsed.Bounds(c.route.API, body)
	c.spending.bounds = b
	c.spending.size = budget.Size{
		Unbounded: b.Unbounded != "", Beyond: b.Beyond != "", What: cmp.Or(b.Unbounded, b.Beyond),
		Input: b.Input, Prompts: b.Prompts, Output: b.Output, Answers: b.Answers, NoOutput: c.route.API == logos.APIEmbeddings,
	}
}

// counted returns nil where no budget counts the call.
func (c *call) counted(d *logos.Decision) *spending {
	if c.server.cfg.Budgets == nil || c.snapshot.budgets == nil {
		return nil
	}
	found := c.server.cfg.Budgets.Call(c.snapshot.budgets, &budget.Caller{
		Team: d.Team, Project: d.Project, APIKey: d.APIKey, Member: c.key.MemberID, EndUser: d.EndUser, Labels: c.asks().Labels,
	}, c.now)
	if found == nil {
		return nil
	}
	return &spending{Call: found}
}

// exclude notes in what is known of a target why no budget has room for the call there.
func (c *call) exclude(state *policy.State, t *logos.Target) {
	target := c.charges(t)
	profile := logos.ProfileID(0) // not known where there are several
	if len(c.profiles) == 1 {
		profile = c.profiles[0].ID
	}
	short := c.spending.Excludes(&target, &c.spending.size, profile)
	switch {
	case short == nil:
		return
	case short.Unknown && short.What == "":
		state.NoPrice = short.Name
	default:
		state.OverBudget = short.Name
	}
	if known := c.spending.short; known == nil || known.Unknown && !short.Unknown {
		c.spending.short = short
	}
}

// charges returns a target with the dearest that it may charge for the call.
func (c *call) charges(t *logos.Target) budget.Target {
	input, _ := c.spending.size.InputAt(t)
	return budget.Target{Target: t, Rates: c.snapshot.prices.worst(t, c.route.API, &c.spending.bounds, input, c.now)}
}

// within chooses targets for which every budget has room, and reserves what the call may use there.
func (c *call) within(ctx context.Context, choose func() policy.Choice) (choice policy.Choice, grant budget.Grant) {
	for range maxTries {
		choice = choose()
		if c.spending == nil || len(choice.Targets) == 0 {
			return choice, grant
		}
		targets := make([]budget.Target, len(choice.Targets))
		for i, t := range choice.Targets {
			targets[i] = c.charges(t)
		}
		var short *budget.Shortage
		if grant, short = c.spending.Reserve(ctx, c.id, choice.Profile.ID, targets, &c.spending.size); short == nil {
			return choice, grant
		}
		c.spending.short = short
	}
	for i := range choice.Candidates { // what seemed to have room lost it each time
		if x := &choice.Candidates[i]; x.Excluded == "" {
			x.Excluded, x.What, x.Rank = policy.OverBudget, c.spending.short.Name, 0
		}
	}
	choice.Targets = nil
	return choice, grant
}

// overBudget returns why budgets leave no target; nil: something else does.
func (c *call) overBudget(candidates []logos.DecisionCandidate) *logos.Error {
	if c.spending == nil || c.spending.short == nil {
		return nil
	}
	for i := range candidates {
		if x := candidates[i].Excluded; x == policy.OverBudget || x == policy.NoPrice {
			return c.spending.short.Error()
		}
	}
	return nil
}

// reservePassing reserves for a call that passes through.
func (c *call) reservePassing(ctx context.Context, d *logos.Decision) error {
	if c.spending = c.counted(d); c.spending == nil {
		return nil
	}
	c.spending.size = budget.Size{Unbounded: true}
	grant, short := c.spending.Reserve(ctx, c.id, d.Profile, []budget.Target{{Target: c.passingTo(d.Model), MayServe: c.mayServe}}, &c.spending.size)
	if c.spending.short = short; short != nil {
		return &refusal{decision: d, err: short.Error()}
	}
	d.Reservations = grant.Reservations
	return nil
}

// passingTo returns the target of a call that passes through, with the model that its body names, where it was read.
func (c *call) passingTo(model string) *logos.Target {
	t := *c.proxied
	t.Model = c.config.Model(model)
	return &t
}

// mayServe says whether the provider of a call that passes through serves a model, which it may then be for.
func (c *call) mayServe(model logos.ModelID) bool {
	return slices.ContainsFunc(c.config.Deployments(c.proxied.Provider.ID), func(d *logos.Deployment) bool { return d.Model == model })
}

// release gives back what a call holds that is not sent.
func (c *call) release() {
	if c.spending != nil {
		c.server.cfg.Budgets.Release(c.id)
	}
}

// releaseUnsent does so whatever kept the call from being sent, a panic included.
func (c *call) releaseUnsent() {
	if c.outcome != "sent" {
		c.release()
	}
}

// unsentID names a call that is only explained, for as long as it holds something.
func unsentID() logos.CallID { return logos.CallID("explained " + rand.Text()) }

// retryHeaders tell clients whether and when to try a refused call again. They try by themselves after a minute at
// most; what else is exhausted is so for a moment.
func retryHeaders(e *logos.Error) (out []*corev3.HeaderValueOption) {
	if e.RetryAfter > 0 {
		out = append(out, setHeader("retry-after", strconv.FormatInt(int64(math.Ceil(e.RetryAfter.Seconds())), 10)))
	}
	passing := e.Kind == logos.Unavailable || e.Kind == logos.Exhausted
	if soon := e.RetryAfter > 0 && e.RetryAfter <= time.Minute; e.Code == budget.RateLimitExceeded && !soon {
		passing = false
	}
	if !passing {
		out = append(out, setHeader("x-should-retry", "false"))
	}
	return out
}

// limitHeaders say what the limit is that refuses a call, of requests or tokens, in OpenAI's names and notation.
func (c *call) limitHeaders(e *logos.Error) []*corev3.HeaderValueOption {
	if e.Code != budget.RateLimitExceeded || c.spending == nil || c.spending.short == nil || c.spending.short.Unit == logos.UnitParallel {
		return nil
	}
	short := c.spending.short
	set := func(what, value string) *corev3.HeaderValueOption {
		return setHeader("x-ratelimit-"+what+"-"+string(short.Unit), value)
	}
	out := []*corev3.HeaderValueOption{set("limit", short.Limit.String()), set("remaining", strconv.FormatInt(short.Left, 10))}
	if !short.Resets.IsZero() {
		seconds := math.Ceil(short.Resets.Sub(c.now).Seconds())
		out = append(out, set("reset", (time.Duration(seconds)*time.Second).String()))
	}
	return out
}
