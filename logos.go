// Package logos is the domain of the gateway: projects, API keys, access profiles, providers, models and
// deployments; the immutable [Config] compiled from them; the [Decision] made for a call; and the records
// of what became of it. It does no I/O, starts no goroutine and reads no clock. Every other package
// speaks in these types.
package logos

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Ids are small integers, as the set-up API has always shown them. Each kind has its own type, so that
// one cannot be passed for another.
type (
	TeamID       int64
	ProjectID    int64
	APIKeyID     int64
	MemberID     int64
	ProfileID    int64
	ProviderID   int64
	CredentialID int64
	ModelID      int64
	DeploymentID int64
)

// A Secret is a credential in the clear. It prints as "[redacted]" in every format, so that it can't
// reach a log, an error or JSON by accident; convert it with string(s) where its value is meant.
type Secret string

// String returns "[redacted]".
func (Secret) String() string { return "[redacted]" }

// GoString returns "[redacted]".
func (Secret) GoString() string { return "[redacted]" }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// A Role says what an API key may do beside calling models.
type Role string

// The roles. What each may do is a table in package api.
const (
	RoleRoot      Role = "root"       // everything
	RoleAdmin     Role = "admin"      // everything but what concerns root keys and the installation's secrets
	RoleTeamOwner Role = "team_owner" // administers its team
	RoleMember    Role = "member"     // calls models, and makes keys of its own
	RoleViewer    Role = "viewer"     // sees, and changes nothing
	RoleService   Role = "service"    // calls models for its project
)

// A Dialect is the family of HTTP APIs that a provider speaks.
type Dialect string

// The dialects known.
const (
	DialectOpenAI     Dialect = "openai"
	DialectAzure      Dialect = "azure"
	DialectAnthropic  Dialect = "anthropic"
	DialectGemini     Dialect = "gemini"
	DialectCompatible Dialect = "openai-compatible"
)

// An API is one of the model APIs that callers use and deployments serve.
type API string

// The model APIs. APINone stands for everything that passes through unread.
const (
	APINone        API = ""
	APIChat        API = "chat"
	APICompletions API = "completions"
	APIResponses   API = "responses"
	APIEmbeddings  API = "embeddings"
	APIMessages    API = "messages"
)

// What the APIs of a key can hold beside the model APIs.
const (
	ScopeModels      = "models"      // the list of models
	ScopePassthrough = "passthrough" // everything that passes through, whatever its path
)

// A Team is a part of the organisation, with projects and members.
type Team struct {
	ID     TeamID
	Name   string
	Labels map[string]string
}

// A Project is an application, service or course that calls models, and the first payer.
type Project struct {
	ID     ProjectID
	TeamID TeamID // 0: no team
	Name   string
	Labels map[string]string
}

// A Member is a person of the organisation, whose role their API keys have.
type Member struct {
	ID   MemberID
	Role Role
}

// An APIKey is the stored form of a secret that a caller presents.
type APIKey struct {
	ID        APIKeyID
	ProjectID ProjectID
	ProfileID ProfileID // 0: not bound to one profile
	MemberID  MemberID  // 0: a program's
	Name      string
	Labels    map[string]string // nil: none
	Role      Role
	Hash      KeyHash
	ExpiresAt time.Time // zero: never
	Revoked   bool

	// PreviousHash is of the secret before the last rotation, which works until PreviousExpiresAt; zero:
	// there is none.
	PreviousHash      KeyHash
	PreviousExpiresAt time.Time
	Digest            bool // one of the hashes is that of an imported SHA-256, see [Hasher.APIKeyDigest]

	APIs    []string       // scopes: an API, [ScopeModels] or [ScopePassthrough]; empty: all
	Models  []ModelID      // empty: all that its profiles grant
	Sources []netip.Prefix // addresses from which it may be used; empty: all
}

// A Profile (access profile) is what a project may use.
type Profile struct {
	ID          ProfileID
	ProjectID   ProjectID
	Name        string
	Passthrough bool    // pass-through is allowed
	Grants      []Grant // providers and credentials it may use
	Models      []ModelID
}

// A Grant lets a profile use a provider, with one of its credentials or, where Credential is 0, with
// none but the caller's own.
type Grant struct {
	Provider   ProviderID
	Credential CredentialID
}

// A Provider is a base URL with a dialect and a way to authenticate.
type Provider struct {
	ID         ProviderID
	Name       string
	BaseURL    *url.URL // http or https, no query but what every call shall carry
	Dialect    Dialect
	AuthHeader string // lower case, e.g. "authorization"; empty: none
	AuthFormat string // with one "{}" for the secret, e.g. "Bearer {}"

	PrivacyZone PrivacyZone
	Labels      map[string]string
}

// A Credential is one API key of a provider.
type Credential struct {
	ID       CredentialID
	Provider ProviderID
	Name     string // unique at its provider
	Secret   Secret // empty: the provider wants none
}

// A Model is what callers name.
type Model struct {
	ID       ModelID
	Name     string
	Endpoint string // relative path of the API it was registered with; may be empty

	Capabilities  []string // e.g. "tools", "vision", "json_schema"
	ContextWindow int64    // tokens, of prompt and answer together; 0: not known
	// MaxOutputTokens bounds each answer whatever a caller asks for, reasoning included; 0: not known.
	MaxOutputTokens int64
	// Declared, from 0 to 1; nil: not known. Those by task stand beside the overall ones.
	Quality, Accuracy         *float64
	TaskQuality, TaskAccuracy map[string]float64
	Labels                    map[string]string
}

// A Deployment is a model at a provider: what a call is sent to.
type Deployment struct {
	ID            DeploymentID
	Model         ModelID
	Provider      ProviderID
	Credential    CredentialID // 0: the profile's credential for the provider
	ProviderModel string       // what the provider calls the model
	Endpoint      string       // overrides the model's endpoint; may be empty
	APIs          []API        // empty: those of the provider's dialect
	// IncludeUsage asks the provider for usage in streams (stream_options.include_usage); where it is
	// off, usage of streams that report none is estimated.
	IncludeUsage bool
	MaxParallel  int  // calls at once; 0: unlimited
	Drained      bool // takes no further calls
	Labels       map[string]string
}

// Egress says where providers may be beside public addresses.
type Egress struct {
	Hosts  []string       // names and addresses; "*.example.org" stands for all below
	Ranges []netip.Prefix // of addresses
}

func (e Egress) equal(other Egress) bool {
	return slices.Equal(e.Hosts, other.Hosts) && slices.Equal(e.Ranges, other.Ranges)
}

// FormatID writes an id as people see it.
func FormatID[T ~int64](id T) string { return strconv.FormatInt(int64(id), 10) }
