package logos

// DecisionFacts are what a choice by policy depended on, so that it can be explained, and replayed against
// another policy. They hold no content: keywords and tags are the names that operators gave to what they
// look for.
type DecisionFacts struct {
	Seed         uint64   `json:"s,string"`     // of all chance in the choice
	InputTokens  int64    `json:"i,omitempty"`  // estimate
	OutputTokens int64    `json:"o,omitempty"`  // expected, where nothing is known for a candidate's model
	Tools        bool     `json:"to,omitempty"` // what the request uses
	Images       bool     `json:"im,omitempty"`
	JSONSchema   bool     `json:"js,omitempty"`
	Language     string   `json:"la,omitempty"`
	Code         bool     `json:"co,omitempty"`
	Keywords     []string `json:"kw,omitempty"`
	Tags         []string `json:"ta,omitempty"`

	SessionHash       uint64       `json:"sh,omitempty,string"`
	PrefixHash        uint64       `json:"ph,omitempty,string"`
	SessionDeployment DeploymentID `json:"sd,omitempty"` // that served it before
	PrefixDeployment  DeploymentID `json:"pd,omitempty"`
	Incumbent         DeploymentID `json:"in,omitempty"` // chosen last

	Policies  []DecisionPolicy `json:"p,omitempty"`  // in the order in which they were applied
	Objective PolicyID         `json:"ob,omitempty"` // the policy whose objective ordered; 0: by id
	First     string           `json:"f,omitempty"`  // what put the first target first, if not its score
}

// What can put a target first, against its score.
const (
	FirstCanary  = "canary"
	FirstExplore = "explore"
	FirstSpread  = "spread" // the less loaded one of near-equals
)

// A DecisionPolicy is a policy that was looked at.
type DecisionPolicy struct {
	ID       PolicyID     `json:"i"`
	Revision int64        `json:"r"`
	Level    PolicyLevel  `json:"l"`
	Profile  ProfileID    `json:"p,omitempty"` // applied to what this profile grants
	Skipped  bool         `json:"s,omitempty"` // its condition did not hold
	Relaxed  []Constraint `json:"x,omitempty"`
}

// DecisionScore is a candidate's score by component, in thousandths.
type DecisionScore struct {
	Total   int32 `json:"t"`
	Cost    int16 `json:"c,omitempty"` // utilities, before weights
	Latency int16 `json:"l,omitempty"`
	Quality int16 `json:"q,omitempty"`
	Load    int16 `json:"o,omitempty"`
	Session int16 `json:"s,omitempty"` // bonuses
	Prefix  int16 `json:"p,omitempty"`
	Held    int16 `json:"h,omitempty"`
}
