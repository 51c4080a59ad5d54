package logos

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Resources is the content of one revision of the database, as plain rows.
type Resources struct {
	Teams       []*Team
	Projects    []*Project
	Members     []*Member
	APIKeys     []*APIKey
	Profiles    []*Profile
	Providers   []*Provider
	Credentials []*Credential
	Models      []*Model
	Deployments []*Deployment
	Policies    []*Policy
	Budgets     []*Budget
	Prices      []*Price      // with ValidFrom and ValidTo, so also of the past and the future
	Tasks       []TaskMatcher // of settings, so always all of them
	Egress      Egress        // likewise
	Hasher      Hasher
}

// A Config is one revision of the whole configuration, compiled for lookups. It is immutable: a request
// loads it once and never sees two revisions. What did not change it shares with the revision before, down
// to the pointers. Its zero value is not usable; see [NewConfig] and [Compiler].
type Config struct {
	Revision int64
	Egress   Egress
	Hasher   Hasher

	callers
	routes
}

// callers is the part of a Config that says who may call, what policies demand and what calls cost. It counts
// at once.
type callers struct {
	teams    map[TeamID]*Team
	projects map[ProjectID]*Project
	keys     *keyTable // by the hash of the present secret
	previous *keyTable // by the hash of the secret before the last rotation
	digests  bool      // some key may be known by the SHA-256 of its secret alone
	policies []*Policy // in order of id
	prices   []*Price  // likewise
	budgets  []*Budget // likewise
	tasks    *[]TaskMatcher
}

// routes is the part of a Config that says what a call may be sent to. It counts once Envoy has it, see
// [Config.WithRoutes].
type routes struct {
	since     *int64 // the revision in which any of it changed last; a new pointer each time
	profiles  map[ProjectID][]*Access
	models    map[ModelID]*Model
	modelName map[string]*Model
	targets   []*Target

	providers   map[ProviderID]*Provider
	credentials []*Credential // seldom looked up, so not indexed; also of providers that are gone
	deployments []*Deployment // likewise
}

// SameRoutes says whether no revision between the two has changed what calls may be sent to. What was
// compiled anew counts as changed.
func (c *Config) SameRoutes(other *Config) bool { return c.since == other.since }

// WithRoutes returns the callers of c with what calls may be sent to in an earlier revision, whose number it
// has: a key that is revoked is so at once, also while Envoy still takes in new targets.
func (c *Config) WithRoutes(of *Config) *Config {
	out := *of
	out.callers = c.callers
	return &out
}

// A Target is a thing that a call can be sent to: a deployment with a credential or, for pass-through,
// a provider with a credential or with the caller's own. Envoy has one cluster for each.
type Target struct {
	// Cluster is the name of its Envoy cluster. It holds the ids and a digest of where the cluster
	// leads and how it authenticates, so that no name ever means two things.
	Cluster    string
	Provider   *Provider
	Credential *Credential // nil: the caller's own headers
	Deployment *Deployment // nil: pass-through
	Model      *Model      // nil: pass-through
}

// StatName is the readable name under which Envoy counts the target.
func (t *Target) StatName() string {
	if t.Deployment == nil {
		if t.Credential == nil {
			return fmt.Sprintf("%s_p%d", statWord(t.Provider.Name), t.Provider.ID)
		}
		return fmt.Sprintf("%s_p%d_c%d", statWord(t.Provider.Name), t.Provider.ID, t.Credential.ID)
	}
	return fmt.Sprintf("%s_%s_d%d_c%d", statWord(t.Provider.Name), statWord(t.Model.Name), t.Deployment.ID, t.Credential.ID)
}

// statWord keeps what Envoy's and Prometheus's names can hold; dots would split a stat name.
func statWord(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '_'
	}, s)
}

// Access is a profile compiled: what a call under it may be sent to.
type Access struct {
	*Profile
	// Candidates holds, for each model granted, its deployments in order of id.
	Candidates map[ModelID][]Candidate
	// Routes holds, for each provider granted, where pass-through calls go, in order of the grants; none
	// unless Profile.Passthrough.
	Routes []PassthroughRoute
}

// A PassthroughRoute is where pass-through calls to one provider go.
type PassthroughRoute struct {
	Own    *Target // with the caller's own provider headers
	Stored *Target // with the profile's credential; nil: it has none
}

// A Candidate is a deployment that a profile grants, with what it needs or the reason why it can't be
// used whatever the call is.
type Candidate struct {
	Deployment *Deployment
	Target     *Target // nil: see Excluded
	Excluded   string  // e.g. "no_credential"
}

// APIKey returns the key with that hash, or nil. The hash may be that of its previous secret; a present one
// wins over it. The key may be revoked or expired: see [APIKey.Usable].
func (c *Config) APIKey(hash KeyHash) *APIKey {
	if k := c.keys.get(hash); k != nil {
		return k
	}
	return c.previous.get(hash)
}

// Project returns the project with that id, or nil.
func (c *Config) Project(id ProjectID) *Project { return c.projects[id] }

// Team returns the team with that id, or nil.
func (c *Config) Team(id TeamID) *Team { return c.teams[id] }

// Policies returns all policies in order of id. If none has changed from one revision to the next, the slice
// is the same.
func (c *Config) Policies() []*Policy { return c.policies }

// Prices returns all prices in order of id. If none has changed from one revision to the next, the slice is the
// same.
func (c *Config) Prices() []*Price { return c.prices }

// ProviderModels returns, for all deployments, what their providers call the model.
func (c *Config) ProviderModels() map[DeploymentID]string {
	out := make(map[DeploymentID]string, len(c.deployments))
	for _, d := range c.deployments {
		name := d.ProviderModel
		if m := c.models[d.Model]; m != nil && name == "" {
			name = m.Name
		}
		out[d.ID] = name
	}
	return out
}

// Budgets returns all budgets in order of id. If none has changed from one revision to the next, the slice is
// the same.
func (c *Config) Budgets() []*Budget { return c.budgets }

// Tasks returns the task matchers. If none has changed from one revision to the next, the pointer is the same.
func (c *Config) Tasks() *[]TaskMatcher { return c.tasks }

// Profiles returns a project's profiles in order of id.
func (c *Config) Profiles(id ProjectID) []*Access { return c.profiles[id] }

// Model returns the model with that name, or nil.
func (c *Config) Model(name string) *Model { return c.modelName[name] }

// ModelByID returns the model with that id, or nil.
func (c *Config) ModelByID(id ModelID) *Model { return c.models[id] }

// Targets returns every target that some profile grants, in order of cluster name. A target of which
// nothing has changed is the same pointer from one revision to the next; if none has, the slice is the same.
func (c *Config) Targets() []*Target { return c.targets }

// Provider returns the provider with that id, or nil.
func (c *Config) Provider(id ProviderID) *Provider { return c.providers[id] }

// Credentials returns a provider's credentials in order of id.
func (c *Config) Credentials(id ProviderID) (out []*Credential) {
	for _, x := range c.credentials {
		if x.Provider == id {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(x, y *Credential) int { return cmp.Compare(x.ID, y.ID) })
	return out
}

// Deployments returns those at a provider in order of id.
func (c *Config) Deployments(id ProviderID) (out []*Deployment) {
	for _, d := range c.deployments {
		if d.Provider == id {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(x, y *Deployment) int { return cmp.Compare(x.ID, y.ID) })
	return out
}

// ProviderTarget returns the target that leads to a provider itself; nil: without a stored credential.
func ProviderTarget(p *Provider, c *Credential) *Target {
	t := &Target{Provider: p, Credential: c}
	t.Cluster = t.clusterName()
	return t
}

// clusterForm counts the ways in which clusters and routes have divided their work. A call that an earlier
// program decided does not meet clusters of another form.
const clusterForm = 2

// clusterName holds all that decides where the cluster leads and what it sends there, but the value of
// the secret, which Envoy takes from a secret resource of its own.
func (t *Target) clusterName() string {
	name := fmt.Sprintf("p%d", t.Provider.ID)
	if t.Deployment != nil {
		name = fmt.Sprintf("d%d", t.Deployment.ID)
	}
	hasSecret := false
	if t.Credential != nil {
		name += fmt.Sprintf("-c%d", t.Credential.ID)
		hasSecret = t.Credential.Secret != ""
	}
	u := t.Provider.BaseURL
	digest := sha256.Sum256(fmt.Appendf(nil, "%d|%s|%s|%s|%s|%t|%d", clusterForm, u.Scheme, u.Host, t.Provider.AuthHeader, t.Provider.Dialect, hasSecret, t.Provider.ID))
	return name + "-" + hex.EncodeToString(digest[:4])
}

// Address returns the host and port that the provider's base URL leads to.
func (p *Provider) Address() (host, port string) {
	host, port = p.BaseURL.Hostname(), p.BaseURL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[p.BaseURL.Scheme]
	}
	return host, port
}

// Authority returns the provider's Host header: its host, with the port where it isn't the scheme's own.
func (p *Provider) Authority() string {
	host, port := p.Address()
	if (p.BaseURL.Scheme == "https" && port == "443") || (p.BaseURL.Scheme == "http" && port == "80") {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}
