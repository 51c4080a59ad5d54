// Package policy turns a call into an ordered list of targets, and says of every deployment that it
// considered why it was kept or not. It is pure: configuration and facts in, choice out. It knows neither
// Envoy nor the database, reads no clock and draws no chance of its own: what is measured and the seed come
// as arguments, and equal arguments give equal choices. ext_proc calls it once a call.
package policy

import (
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy/signals"
)

// MaxTargets bounds how many targets a call is given.
const MaxTargets = 3

// The reasons why a deployment is not used, whatever the policies say. Those of policies are the names of
// constraints, and the two for rules.
const (
	NoCredential  = "no_credential"  // neither it nor the profile has a credential for its provider
	APINotServed  = "api_not_served" // it does not serve the API that was called
	NotActive     = "not_active"     // Envoy has not made its cluster ready yet
	Unhealthy     = "unhealthy"      // its breaker is open, or it is drained
	OverBudget    = "over_budget"    // a budget has no room for what the call may use there
	NoPrice       = "no_price"       // a budget of money counts the call, and it has no price in that currency
	ContextLength = "context_length" // the request and its answer do not fit into the model's context window
	OverLimit     = "over_limit"     // as many others as a call is given come first
	// Its provider's host has no address, or none that is allowed.
	HostNotResolved = "host_not_resolved"
	HostNotAllowed  = "host_not_allowed"
	NotCompiled     = "not_compiled" // the policies were compiled for a configuration without it

	RuleBroken = "rule"       // a rule does not hold
	RuleFailed = "rule_error" // a rule could not be evaluated
)

// RateLimited is why a target is unhealthy that asked for a pause; see [State].
const RateLimited = "rate_limited"

// passing says whether a reason may be gone in a moment, whatever the policies say.
func passing(reason string) bool {
	switch reason {
	case NotActive, Unhealthy, OverLimit, HostNotResolved, NotCompiled:
		return true
	}
	return false
}

// Auto is the model name that asks for a choice among all models.
const Auto = "auto"

// defaultOutput is how many tokens are expected of an answer of which nothing is known.
const defaultOutput = 500

// A Request is what a choice depends on, of the request.
type Request struct {
	API    logos.API
	Model  *logos.Model    // nil: any model that the profile may use
	Scope  []logos.ModelID // of the key; empty: all
	Policy string          // that the call names; empty: none

	Name                            string // of the model, as the caller gave it
	Stream, Tools, Images           bool
	JSONSchema                      bool
	InputTokens                     int64 // estimate; 0: not known
	LongestInput                    int64 // of the longest of several prompts; 0: there is one
	MaxTokens                       int64 // the caller's limit of each answer; 0: none
	Answers                         int64 // that are asked for; 0: one
	OutputTokens                    int64 // expected of each, a quantile; 0: not known
	Signals                         signals.Signals
	SessionHash, PrefixHash         uint64             // of the session, and of how the prompt begins; 0: none
	SessionDeployment, PrefixServed logos.DeploymentID // that served them before; 0: not known
	Incumbent                       logos.DeploymentID // chosen last for such calls; 0: none
	Seed                            uint64             // of all chance, see [Seed]
}

// A Caller is what a choice depends on, of who calls.
type Caller struct {
	Team        logos.TeamID // 0: none
	Project     logos.ProjectID
	Key         logos.APIKeyID
	Profile     logos.ProfileID // that the call names or its key is bound to; 0: none
	TeamName    string
	ProjectName string
	ProfileName string
	KeyName     string
	Labels      map[string]string // of team, project and key
	HasEndUser  bool
}

// Live is what is known of targets at this moment.
type Live struct {
	// Active says whether Envoy is ready for a cluster.
	Active func(cluster string) bool
	// Inactive says why a target is not active; nil: [NotActive].
	Inactive func(*logos.Target) string
	// State returns what is measured of a target, for calls with that much input. Nil: nothing is.
	State func(t *logos.Target, inputTokens int64) State
}

// inactive says why a target can't be called.
func (l *Live) inactive(t *logos.Target) string {
	if l.Inactive == nil {
		return NotActive
	}
	return l.Inactive(t)
}

// A State is what is measured of a target. The zero value is a healthy one of which nothing is known.
type State struct {
	Unhealthy     string        // why, e.g. "breaker_open" or "drained"; empty: it is healthy
	OverBudget    string        // the budget that has no room for what the call may use there; empty: none
	NoPrice       string        // the budget that keeps calls from it because it has no price; empty: none
	FirstToken    time.Duration // expected time to the first token, median; 0: not known
	FirstTokenP95 time.Duration // and 95th percentile
	Load          float64       // share of its capacity in use; may be above 1
	Stale         bool          // there are too few recent measurements
	Offered       bool          // it failed or was slow, and one call may find out whether it still is
	OutputTokens  int64         // expected of its model, a quantile; 0: see the request
	Rates         *Rates        // nil: it has no price
}

// A Choice is an ordered list of targets, with its explanation.
type Choice struct {
	Targets    []*logos.Target
	Profile    *logos.Access // under which the first target was granted
	Candidates []logos.DecisionCandidate
	Granted    bool   // some profile grants the model asked for, and the key's scope has it
	Passing    []bool // of Candidates, where there are no targets: what excludes it may be gone in a moment

	Facts      *logos.DecisionFacts // nil: there was no set of policies
	Attempts   logos.AttemptLimits
	Scheduling logos.Scheduling
}

// Choose orders what the profiles grant, by id of the deployment: the choice without policies. Each target is
// used at most once, and only if it is active.
func Choose(profiles []*logos.Access, r Request, live Live) Choice {
	var none *Set
	return none.Choose(profiles, &r, &Caller{}, live)
}
