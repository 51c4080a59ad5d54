package dialect

import (
	_ "embed"
	"slices"
	"strconv"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

//go:embed attempts.lua
var luaAttempts string

// BetweenAttempts is the cluster of the attempts between those at targets. It leads nowhere: there the next target
// is said, see attempts.lua.
const BetweenAttempts = "logos_between_attempts"

// ClusterHeader names the cluster of the next attempt to the route of calls that have a plan.
const ClusterHeader = "x-logos-cluster"

// What an attempt with an answer tells the route's retry policy in headers that only [Lua] sets.
const (
	AgainHeader   = "x-logos-again"    // there is another attempt, if the value is the mark
	AgainInHeader = "x-logos-again-in" // after as many seconds
)

// Metadata in which [Lua] keeps how many targets were tried; it is missing while there is one attempt.
const (
	AttemptsNamespace = "logos.attempts"
	AttemptsMade      = "made"
)

// PlanKey names the plan in the decision's metadata.
const PlanKey = "p"

// A Plan says how often and after what a call may be tried again.
type Plan struct {
	Start   time.Time // when the first attempt begins
	Max     int       // attempts at targets in all
	Total   time.Duration
	Wait    time.Duration // at most, for a target that asks for it
	Silence time.Duration // after which Envoy gives an attempt up that has no answer
	// NoAnswer stands for resets and for connections that could not be made: what decides after either knows only
	// that there was no answer. So where a policy names silence and connections, but no resets, there is none
	// after a connection that could not be made.
	NoAnswer, ServerError, RateLimited, Silent, TooLong bool
	connectOnly                                         bool // NoAnswer stands for connections alone
	awaitsBody                                          bool // headers without a body count as silence
	Targets                                             []PlanTarget
}

// A PlanTarget is one of the targets, in their order.
type PlanTarget struct {
	Cluster string
	Window  int64 // tokens that its model takes; 0: not known
}

// The defaults where policies say nothing.
const (
	triesOfTarget = 2
	longestWait   = 10 * time.Second // callers and their clients know better what to do with a longer one
)

// ConnectTimeout is after what Envoy gives up a connection. A target that it is lost on is not tried again.
const ConnectTimeout = 10 * time.Second

// PlanBounds is what Envoy does with calls whatever their plan says.
type PlanBounds struct {
	FirstByte time.Duration // an attempt without an answer is given up
	Idle      time.Duration // a call in which nothing happens is ended
}

// NewPlan makes the plan of a call at targets whose attempts are limited so.
func NewPlan(start time.Time, limits logos.AttemptLimits, bounds PlanBounds, targets []PlanTarget) Plan {
	p := Plan{Start: start, Max: triesOfTarget * len(targets), Total: limits.TotalTime, Wait: longestWait, Silence: bounds.FirstByte, Targets: targets}
	if limits.Max > 0 {
		p.Max = min(p.Max, limits.Max)
	}
	if limits.TotalTime > 0 {
		p.Wait = limits.TotalTime
	}
	p.Wait = min(p.Wait, bounds.Idle/2) // Envoy may wait half as long again
	if limits.FirstToken > 0 {
		p.Silence, p.awaitsBody = min(p.Silence, limits.FirstToken), true
	}
	has := conditions(limits.On)
	p.ServerError, p.RateLimited, p.Silent, p.TooLong = has(logos.RetryServerError), has(logos.RetryRateLimited), has(logos.RetrySilent), has(logos.RetryContextLength)
	p.connectOnly = !p.Silent && !has(logos.RetryReset)
	p.NoAnswer = has(logos.RetryReset) || p.connectOnly && has(logos.RetryConnectFailure)
	return p
}

// conditions returns whether a condition is among some, of which nil stands for all.
func conditions(on []logos.RetryCondition) func(logos.RetryCondition) bool {
	return func(c logos.RetryCondition) bool { return on == nil || slices.Contains(on, c) }
}

// MaxRetries bounds Envoy's attempts after the first: before each further one at a target there is one between, and
// that may be the last.
func (p Plan) MaxRetries() int {
	if p.Max <= 1 {
		return 0
	}
	return 2*p.Max - 1
}

// RetryOn returns after what, beside answers that [Lua] marks, Envoy makes another attempt, in the form of its
// header x-envoy-retry-on; empty: after nothing.
func (p Plan) RetryOn() string {
	switch {
	case p.Silent || p.NoAnswer && !p.connectOnly:
		return "reset,connect-failure"
	case p.NoAnswer:
		return "connect-failure"
	}
	return ""
}

// Encode writes the plan as the text that [Lua] reads.
func (p Plan) Encode() string {
	b := make([]byte, 0, 64+32*len(p.Targets))
	for _, n := range []int64{p.Start.UnixMilli(), int64(p.Max), p.Total.Milliseconds(), p.Wait.Milliseconds(), p.Silence.Milliseconds()} {
		b = append(strconv.AppendInt(b, n, 10), ' ')
	}
	for _, c := range []struct {
		letter byte
		holds  bool
	}{{'n', p.NoAnswer}, {'e', p.ServerError}, {'l', p.RateLimited}, {'s', p.Silent}, {'x', p.TooLong}, {'h', p.awaitsBody}} {
		if c.holds {
			b = append(b, c.letter)
		}
	}
	separator := byte(';')
	for _, t := range p.Targets {
		b = append(append(append(b, separator), t.Cluster...), ' ')
		b = strconv.AppendInt(b, t.Window, 10)
		separator = ' '
	}
	return string(b)
}
