package logos

import (
	"encoding/json"
	"time"
)

// A CallID is the request id that Envoy gave the call: a UUID in its usual text form.
type CallID string

// ValidCallID says whether an id is a UUID in its usual text form.
func ValidCallID(id CallID) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// A Decision is what Logos decided about a call. Its JSON travels in the intent and, without the explanation, in
// Envoy's dynamic metadata into the access log; keys are short because every call carries them.
type Decision struct {
	Start    int64  `json:"s"`           // microseconds since 1970; the key under which the call is stored
	Deadline int64  `json:"e,omitempty"` // microseconds since 1970: no attempt runs after it
	Revision int64  `json:"r"`           // of the configuration that decided
	API      API    `json:"a,omitempty"` // empty: pass-through
	Stream   bool   `json:"st,omitempty"`
	Model    string `json:"m,omitempty"` // as the caller named it, at most 256 bytes

	Team    TeamID    `json:"t,omitempty"`
	Project ProjectID `json:"p"`
	APIKey  APIKeyID  `json:"k"`
	Profile ProfileID `json:"pr,omitempty"` // of the first target
	EndUser string    `json:"u,omitempty"`  // pseudonym, see Hasher.EndUser
	Session string    `json:"se,omitempty"` // x-logos-session, at most 128 bytes

	Targets []DecisionTarget `json:"tg,omitempty"` // in their order; each may get more than one attempt, or none
	Explanation
	Refusal string `json:"x,omitempty"` // the error code, if the call was refused

	BodyBytes int64 `json:"b,omitempty"`  // of the request, for estimates
	MaxTokens int64 `json:"mt,omitempty"` // the output limit that the caller set

	// Reservations are what the call holds of budgets. ClampedTo is the output limit that a budget set; 0: none.
	Reservations []Reservation `json:"bu,omitempty"`
	ClampedTo    int64         `json:"ct,omitempty"`
}

// An Explanation is why a decision is as it is. No call is settled by it.
type Explanation struct {
	Candidates     []DecisionCandidate `json:"c,omitempty"`  // everything considered, in order
	MoreCandidates int                 `json:"cm,omitempty"` // that are not listed
	Facts          *DecisionFacts      `json:"f,omitempty"`  // nil: no policy was asked
}

// Encode returns the decision as JSON, and without its explanation, which is most of it.
func (d *Decision) Encode() (whole, settling []byte, err error) {
	without := *d
	without.Explanation = Explanation{}
	if settling, err = json.Marshal(&without); err != nil {
		return nil, nil, err
	}
	why, err := json.Marshal(&d.Explanation)
	if err != nil || len(why) == len("{}") {
		return settling, settling, err
	}
	whole = make([]byte, 0, len(settling)+len(why))
	whole = append(append(whole, settling[:len(settling)-1]...), ',')
	return append(whole, why[1:]...), settling, nil
}

// A DecisionTarget names one target in a decision.
type DecisionTarget struct {
	Deployment DeploymentID `json:"d,omitempty"` // 0: pass-through
	Model      ModelID      `json:"m,omitempty"`
	Provider   ProviderID   `json:"p"`
	Credential CredentialID `json:"c,omitempty"` // 0: the caller's own
	Cluster    string       `json:"n"`
	AsksUsage  bool         `json:"u,omitempty"` // the provider was asked for usage in the stream
}

// A DecisionCandidate is one deployment that was considered.
type DecisionCandidate struct {
	Deployment DeploymentID `json:"d"`
	Excluded   string       `json:"x,omitempty"` // why not; empty: kept

	Profile ProfileID `json:"pr,omitempty"` // that grants it, where there are several
	Policy  PolicyID  `json:"p,omitempty"`  // that excluded it; 0: none did
	// What decided: the value it has and the limit, in the unit of the reason, and what they are of.
	Have  float64 `json:"h,omitempty"`
	Limit float64 `json:"l,omitempty"`
	What  string  `json:"w,omitempty"`

	// What was known of it.
	Cost       int64   `json:"c,omitempty"`  // expected, in 1e-12 of the currency; 0 with no currency: not priced
	Currency   string  `json:"cu,omitempty"` // of its price
	Output     int64   `json:"o,omitempty"`  // tokens expected of its model
	FirstToken int64   `json:"f,omitempty"`  // expected time to it: microseconds, median
	SlowToken  int64   `json:"fs,omitempty"` // and 95th percentile
	Load       float32 `json:"lo,omitempty"`
	Stale      bool    `json:"st,omitempty"` // too few measurements

	Rank  int            `json:"n,omitempty"` // 1: the first choice; 0: excluded
	Score *DecisionScore `json:"s,omitempty"`
}

// StartTime returns Start as a time in UTC.
func (d *Decision) StartTime() time.Time { return time.UnixMicro(d.Start).UTC() }

// DeadlineTime returns Deadline as a time in UTC.
func (d *Decision) DeadlineTime() time.Time { return time.UnixMicro(d.Deadline).UTC() }

// An EndReason says how a call or an attempt ended.
type EndReason string

// The end reasons.
const (
	EndOK              EndReason = "ok"               // a whole answer
	EndClientCancelled EndReason = "client_cancelled" // the caller went away first
	EndUpstreamError   EndReason = "upstream_error"   // the provider failed or could not be reached
	EndRejected        EndReason = "rejected"         // the provider refused the request itself (4xx but 429)
	EndTruncated       EndReason = "truncated"        // the answer began and broke off
	EndTimeout         EndReason = "timeout"          // a time limit of Logos ended it
	EndRefused         EndReason = "refused"          // Logos refused; no attempt was made
	EndLost            EndReason = "lost"             // its end was never seen
)

// A Meter is a quantity that is paid for. Meters of one attempt are disjoint: their sum counts nothing
// twice.
type Meter string

// The meters.
const (
	MeterInput        Meter = "input"          // prompt tokens of text that were neither read from a cache nor written to one
	MeterCachedInput  Meter = "cached_input"   // prompt tokens read from the provider's cache
	MeterCacheWrite   Meter = "cache_write"    // prompt tokens written to the provider's cache, for five minutes where it tells
	MeterCacheWrite1h Meter = "cache_write_1h" // and for an hour
	MeterOutput       Meter = "output"         // answer tokens of text, but for reasoning
	MeterReasoning    Meter = "reasoning"      // answer tokens spent on reasoning
	MeterAudioInput   Meter = "audio_input"    // prompt tokens of audio that were not read from a cache
	MeterAudioOutput  Meter = "audio_output"   // answer tokens of audio
	MeterImage        Meter = "image"          // images made
	MeterWebSearch    Meter = "web_search"     // searches that the provider made for an answer
	MeterRequest      Meter = "request"        // attempts that are charged at all
)

// Meters are all of them, in the order in which they are shown.
var Meters = []Meter{
	MeterInput, MeterCachedInput, MeterCacheWrite, MeterCacheWrite1h, MeterAudioInput,
	MeterOutput, MeterReasoning, MeterAudioOutput, MeterImage, MeterWebSearch, MeterRequest,
}

// Prompt says whether a meter counts tokens of the prompt.
func (m Meter) Prompt() bool {
	switch m {
	case MeterInput, MeterCachedInput, MeterCacheWrite, MeterCacheWrite1h, MeterAudioInput:
		return true
	}
	return false
}

// Tokens says whether a meter counts tokens; the others count images, searches and attempts.
func (m Meter) Tokens() bool {
	return m != MeterImage && m != MeterWebSearch && m != MeterRequest
}

// A MeterReading is how much of a meter an attempt used.
type MeterReading struct {
	Meter     Meter
	Quantity  int64
	Estimated bool // not reported by the provider
}

// A Call is the stored outcome of one request of a caller.
type Call struct {
	ID       CallID
	Gateway  string
	Decision Decision

	Method       string
	Status       int // as the caller saw it; 0: unknown
	End          EndReason
	Duration     time.Duration
	FirstByte    time.Duration // 0: there was none
	RequestBytes int64
	AnswerBytes  int64
	ServiceTier  string
	Error        CallError
	Attempts     []Attempt
	Spent        []Spending // of budgets
}

// A CallError is the error that ended a call, as far as the provider or Envoy told it.
type CallError struct {
	Code    string
	Type    string
	Message string // at most 512 bytes
}

// An Attempt is one try of a call at one target: with its meters, a usage record.
type Attempt struct {
	Number            int // from 1
	Target            DecisionTarget
	Start             time.Time
	Duration          time.Duration
	Status            int // 0: no response
	End               EndReason
	ProviderRequestID string
	Detail            string // Envoy's own words: response flags and details
	Meters            []MeterReading
	Charge            *Charge // nil: nobody has rated it
}

// A LogPosition is how far a gateway's access log has been read and stored.
type LogPosition struct {
	Epoch      string // of the Envoy process
	Generation int64  // counts rotations
	Offset     int64  // bytes
}

// An UnknownLine is a line of the access log that could not be understood; it is kept aside for a
// person to look at.
type UnknownLine struct {
	Epoch      string
	Generation int64
	Offset     int64
	Line       []byte // at most 64 KiB of it
}

// A LogBatch is what was read from a gateway's access logs, with how far that is.
type LogBatch struct {
	Calls     []*Call
	Unknown   []UnknownLine
	Positions []LogPosition
	Done      []string // epochs whose logs are read to their end and need no position any more
}
