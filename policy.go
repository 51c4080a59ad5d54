package logos

import (
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// A PolicyID names a policy.
type PolicyID int64

// A PolicyLevel is what a policy belongs to. What a higher level demands, a lower one can only tighten.
type PolicyLevel uint8

// The levels, from the highest.
const (
	LevelInstallation PolicyLevel = iota
	LevelTeam
	LevelProject
	LevelProfile
	LevelAPIKey
)

var levelNames = [...]string{"installation", "team", "project", "access_profile", "api_key"}

// String returns the level's name.
func (l PolicyLevel) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return "unknown"
}

// ParsePolicyLevel reads a level's name.
func ParsePolicyLevel(text string) (PolicyLevel, error) {
	for i, name := range levelNames {
		if text == name {
			return PolicyLevel(i), nil
		}
	}
	return 0, Errorf(Invalid, "invalid_level", "%.40q is no level of policies: use %s", text, strings.Join(levelNames[:], ", "))
}

// A Money is an exact amount in a currency.
type Money struct {
	Amount   decimal.Decimal
	Currency string // ISO 4217, e.g. "EUR"
}

// A Policy turns calls into an ordered list of deployments, together with the policies of the levels above
// and below it. Each change makes a new revision. Its zero value demands nothing.
type Policy struct {
	ID        PolicyID
	Name      string
	Revision  int64 // of the configuration that changed it last
	Level     PolicyLevel
	Owner     int64             // id of the team, project, access profile or API key; 0: the installation
	OnRequest bool              // applies only to calls that name it
	Labels    map[string]string // for selectors and reports

	// When is a CEL condition over request and caller; empty: the policy applies to every call. If it fails
	// at run time, the policy applies.
	When string

	Constraints Constraints
	Rules       []Rule

	// Relax names constraints of this policy that may be dropped, the first first, if no candidate meets
	// them all. Only what this policy demands is ever dropped by it; privacy and access never are.
	Relax []Constraint

	Objective  *Objective // nil: that of the level above
	Attempts   AttemptLimits
	Scheduling Scheduling
}

// Closed returns a policy in the place of one that can't be read or used: it allows nothing.
func (p *Policy) Closed() *Policy {
	return &Policy{
		ID: p.ID, Name: p.Name, Revision: p.Revision, Level: p.Level, Owner: p.Owner, OnRequest: p.OnRequest, Labels: p.Labels,
		Constraints: Constraints{Allow: Targets{Models: []ModelID{}}},
	}
}

// A Constraint names one kind of demand, as it stands in [Policy.Relax] and in explanations.
type Constraint string

// The constraints. The first two are never relaxed.
const (
	ConstraintPrivacyZone  Constraint = "privacy_zone"
	ConstraintAccess       Constraint = "access" // allow and deny lists
	ConstraintLabels       Constraint = "labels"
	ConstraintCapabilities Constraint = "capabilities"
	ConstraintQuality      Constraint = "quality"
	ConstraintAccuracy     Constraint = "accuracy"
	ConstraintPriced       Constraint = "priced"
	ConstraintMaxCost      Constraint = "max_cost"
	ConstraintFirstToken   Constraint = "time_to_first_token"
)

// RuleConstraint names a rule as a constraint.
func RuleConstraint(name string) Constraint { return Constraint("rule:" + name) }

// Constraints are hard demands in real units. The zero value of each demands nothing.
type Constraints struct {
	MaxPrivacyZone PrivacyZone // what is in no known zone counts as anywhere

	// Allow lists what alone may be used, Deny what may not.
	Allow, Deny Targets

	Labels []LabelRequirement // of deployments, with the labels of their model and provider; all must hold

	// Capabilities must be declared by the model. RequireUsed adds those that the request uses: tools,
	// vision, json_schema.
	Capabilities []string
	RequireUsed  bool

	// Declared by the model, from 0 to 1. What is not declared is too little. Those of a task hold for
	// requests of that task; a model that declares none for it has its overall one.
	MinQuality, MinAccuracy         float64
	MinTaskQuality, MinTaskAccuracy map[string]float64

	// MaxCost limits what the call is expected to cost, with one amount for each currency; a deployment that
	// is priced in another one, or not at all, is excluded. Nil: not limited.
	MaxCost      []Money
	DenyUnpriced bool // deployments without a price are excluded

	// MaxFirstToken limits the expected time to the first token, 95th percentile. A deployment for which
	// nothing is expected yet passes, or else it would never be measured.
	MaxFirstToken time.Duration
}

// Targets is a choice of models, providers and deployments. For each, nil stands for no list; an empty list
// has nothing in it.
type Targets struct {
	Models      []ModelID
	Providers   []ProviderID
	Deployments []DeploymentID
}

// A LabelRequirement demands something of one label.
type LabelRequirement struct {
	Label    string
	Operator LabelOperator
	Values   []string // of In and NotIn
}

// A LabelOperator compares a label.
type LabelOperator string

// The operators.
const (
	LabelIn        LabelOperator = "in"
	LabelNotIn     LabelOperator = "not_in" // also holds without the label
	LabelExists    LabelOperator = "exists"
	LabelNotExists LabelOperator = "not_exists"
)

// A RuleKind says what a rule protects.
type RuleKind string

// The kinds of rules. The zero value is the strictest.
const (
	RuleAccess     RuleKind = ""
	RulePrivacy    RuleKind = "privacy"
	RulePreference RuleKind = "preference" // may be relaxed
)

// A Rule is a demand in CEL. A candidate for which Require is not true is excluded, also where it fails at
// run time.
type Rule struct {
	Name    string // unique in the policy
	Kind    RuleKind
	When    string // over request and caller; empty: always. If it fails at run time, the rule holds
	Require string // over candidate, request and caller
}

// An Objective orders the deployments that meet all demands. Each has a score that depends on itself alone:
// the mean of its utilities, from 0 to 1, by these weights, and bonuses. Utilities halve at the scales.
type Objective struct {
	Cost, Latency, Quality, Load float64 // weights; all 0: by id

	CostScale    Money         // expected cost at which the utility is 1/2; zero: 0.01
	LatencyScale time.Duration // expected time to the first token at which the utility is 1/2; zero: 1 s

	// Bonuses, in units of the score: for the deployment that served the session, or a prompt that begins
	// alike, before; where that is not known, spread by hash, so that all gateways agree.
	SessionBonus, PrefixBonus float64

	// Hysteresis is the bonus of the deployment that this gateway chose last.
	Hysteresis float64
	// Tolerance is the difference in score below which deployments count as equal: of two of them, drawn by
	// chance, the less loaded one comes first.
	Tolerance float64
	// Exploration is the share of calls, at most 0.1, that go to a deployment about which too little is
	// known. It must meet all demands like any other.
	Exploration float64

	Canaries []Canary
}

// A Canary gets a share of the calls, and no others unless nothing else is left.
type Canary struct {
	Targets Targets // any of these
	Percent float64 // of calls, 0 to 100; those of all canaries together are at most 100
}

// AttemptLimits limit the tries of a call. Zero values limit nothing beyond what holds for all calls.
type AttemptLimits struct {
	Max        int              // tries in all
	On         []RetryCondition // after which there is another try; nil: all
	TotalTime  time.Duration    // until the last try begins
	FirstToken time.Duration    // of a stream: a target is left if no byte of the body came by then
}

// A RetryCondition is an outcome after which another attempt makes sense.
type RetryCondition string

// The conditions.
const (
	RetryConnectFailure RetryCondition = "connect_failure"
	RetryReset          RetryCondition = "reset"
	RetryServerError    RetryCondition = "server_error" // 5xx
	RetryRateLimited    RetryCondition = "rate_limited" // 429
	RetrySilent         RetryCondition = "silent"       // no token within AttemptLimits.FirstToken
	RetryContextLength  RetryCondition = "context_length"
)

// Scheduling is what the scheduler does with calls that have to wait.
type Scheduling struct {
	Priority     *int          // higher is served first; nil: not limited. A lower level can only lower it
	MaxQueueTime time.Duration // 0: not limited
	Deadline     time.Duration // from the start of the call to its end; 0: not limited
}

// A TaskMatcher recognises a task in the text of a request, without a model.
type TaskMatcher struct {
	Name     string // of the keyword or, where System is set, of the tag
	System   bool   // looks in the system prompt, instead of what the user says
	Keywords []string
	Patterns []string // RE2
}
