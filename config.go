package logos

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// Resources is the content of one revision of the database, as plain rows.
type Resources struct {
	Projects    []*Project
	APIKeys     []*APIKey
	Profiles    []*Profile
	Providers   []*Provider
	Credentials []*Credential
	Models      []*Model
	Deployments []*Deployment
	Egress      Egress
	Hasher      Hasher
}

// A Config is one revision of the whole configuration, compiled for lookups. It is immutable: a request
// loads it once and never sees two revisions. Its zero value is not usable; see [NewConfig].
type Config struct {
	Revision int64
	Egress   Egress
	Hasher   Hasher

	projects  map[ProjectID]*Project
	keys      map[KeyHash]*APIKey
	profiles  map[ProjectID][]*Access
	models    map[ModelID]*Model
	modelName map[string]*Model
	targets   []*Target

	// Seldom looked up, so not indexed.
	providers   []*Provider
	credentials []*Credential
	deployments []*Deployment
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

// NewConfig compiles the resources of a revision. It refuses resources that contradict one another,
// naming the first contradiction; the caller then keeps the last good configuration.
func NewConfig(revision int64, r Resources) (*Config, error) {
	c := &Config{
		Revision:  revision,
		Egress:    r.Egress,
		Hasher:    r.Hasher,
		projects:  index(r.Projects, func(p *Project) ProjectID { return p.ID }),
		keys:      index(r.APIKeys, func(k *APIKey) KeyHash { return k.Hash }),
		profiles:  make(map[ProjectID][]*Access),
		models:    index(r.Models, func(m *Model) ModelID { return m.ID }),
		modelName: index(r.Models, func(m *Model) string { return m.Name }),

		providers: r.Providers, credentials: r.Credentials, deployments: r.Deployments,
	}
	b := compiler{
		providers:   index(r.Providers, func(p *Provider) ProviderID { return p.ID }),
		credentials: index(r.Credentials, func(c *Credential) CredentialID { return c.ID }),
		models:      c.models,
		deployments: make(map[ModelID][]*Deployment),
		targets:     make(map[string]*Target),
	}
	for _, k := range r.APIKeys {
		if c.projects[k.ProjectID] == nil {
			return nil, fmt.Errorf("api key %d is of no known project (%d)", k.ID, k.ProjectID)
		}
	}
	for _, p := range r.Providers {
		if p.BaseURL == nil || p.BaseURL.Hostname() == "" || (p.BaseURL.Scheme != "http" && p.BaseURL.Scheme != "https") {
			return nil, fmt.Errorf("provider %d has no usable base URL", p.ID)
		}
	}
	for _, d := range slices.SortedFunc(slices.Values(r.Deployments), func(x, y *Deployment) int { return cmp.Compare(x.ID, y.ID) }) {
		if b.models[d.Model] == nil || b.providers[d.Provider] == nil {
			return nil, fmt.Errorf("deployment %d is of no known model (%d) or provider (%d)", d.ID, d.Model, d.Provider)
		}
		if d.Credential != 0 && (b.credentials[d.Credential] == nil || b.credentials[d.Credential].Provider != d.Provider) {
			return nil, fmt.Errorf("deployment %d has credential %d, which is not one of its provider's", d.ID, d.Credential)
		}
		b.deployments[d.Model] = append(b.deployments[d.Model], d)
	}
	for _, p := range slices.SortedFunc(slices.Values(r.Profiles), func(x, y *Profile) int { return cmp.Compare(x.ID, y.ID) }) {
		access, err := b.access(p)
		if err != nil {
			return nil, fmt.Errorf("profile %d: %w", p.ID, err)
		}
		c.profiles[p.ProjectID] = append(c.profiles[p.ProjectID], access)
	}
	for _, t := range b.targets {
		c.targets = append(c.targets, t)
	}
	slices.SortFunc(c.targets, func(x, y *Target) int { return cmp.Compare(x.Cluster, y.Cluster) })
	return c, nil
}

// APIKey returns the key with that hash, or nil. It may be revoked or expired.
func (c *Config) APIKey(hash KeyHash) *APIKey { return c.keys[hash] }

// Project returns the project with that id, or nil.
func (c *Config) Project(id ProjectID) *Project { return c.projects[id] }

// Profiles returns a project's profiles in order of id.
func (c *Config) Profiles(id ProjectID) []*Access { return c.profiles[id] }

// Model returns the model with that name, or nil.
func (c *Config) Model(name string) *Model { return c.modelName[name] }

// ModelByID returns the model with that id, or nil.
func (c *Config) ModelByID(id ModelID) *Model { return c.models[id] }

// Provider returns the provider with that id, or nil.
func (c *Config) Provider(id ProviderID) *Provider {
	for _, p := range c.providers {
		if p.ID == id {
			return p
		}
	}
	return nil
}

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

// Targets returns every target that some profile grants, in order of cluster name.
func (c *Config) Targets() []*Target { return c.targets }

// Usable says whether a key may be used at the given time.
func (k *APIKey) Usable(now time.Time) bool {
	return !k.Revoked && (k.ExpiresAt.IsZero() || now.Before(k.ExpiresAt))
}

func index[K comparable, V any](rows []V, key func(V) K) map[K]V {
	m := make(map[K]V, len(rows))
	for _, r := range rows {
		m[key(r)] = r
	}
	return m
}

// A compiler holds what compiling the profiles of one revision shares.
type compiler struct {
	providers   map[ProviderID]*Provider
	credentials map[CredentialID]*Credential
	models      map[ModelID]*Model
	deployments map[ModelID][]*Deployment
	targets     map[string]*Target
}

func (b *compiler) access(p *Profile) (*Access, error) {
	a := &Access{Profile: p, Candidates: make(map[ModelID][]Candidate, len(p.Models))}
	own := make(map[ProviderID]*Credential) // the profile's credential for a provider: its first
	for _, g := range p.Grants {
		provider, credential := b.providers[g.Provider], b.credentials[g.Credential]
		if provider == nil || (g.Credential != 0 && (credential == nil || credential.Provider != g.Provider)) {
			return nil, fmt.Errorf("it grants provider %d with credential %d, which do not belong together", g.Provider, g.Credential)
		}
		if own[g.Provider] == nil {
			own[g.Provider] = credential
		}
	}
	if p.Passthrough {
		a.Routes = b.routes(p.Grants, own)
	}
	for _, id := range p.Models {
		model := b.models[id]
		if model == nil {
			return nil, fmt.Errorf("it grants model %d, which does not exist", id)
		}
		candidates := make([]Candidate, 0, len(b.deployments[id]))
		for _, d := range b.deployments[id] {
			credential := own[d.Provider]
			if d.Credential != 0 {
				credential = b.credentials[d.Credential]
			}
			if credential == nil {
				candidates = append(candidates, Candidate{Deployment: d, Excluded: "no_credential"})
				continue
			}
			candidates = append(candidates, Candidate{Deployment: d, Target: b.target(b.providers[d.Provider], credential, d, model)})
		}
		a.Candidates[id] = candidates
	}
	return a, nil
}

// routes makes one pass-through route for each provider granted.
func (b *compiler) routes(grants []Grant, own map[ProviderID]*Credential) []PassthroughRoute {
	var out []PassthroughRoute
	seen := make(map[ProviderID]bool, len(grants))
	for _, g := range grants {
		if seen[g.Provider] {
			continue
		}
		seen[g.Provider] = true
		route := PassthroughRoute{Own: b.target(b.providers[g.Provider], nil, nil, nil)}
		if c := own[g.Provider]; c != nil {
			route.Stored = b.target(b.providers[g.Provider], c, nil, nil)
		}
		out = append(out, route)
	}
	return out
}

// target returns the one target for these parts.
func (b *compiler) target(p *Provider, c *Credential, d *Deployment, m *Model) *Target {
	t := &Target{Provider: p, Credential: c, Deployment: d, Model: m}
	t.Cluster = t.clusterName()
	if known := b.targets[t.Cluster]; known != nil {
		return known
	}
	b.targets[t.Cluster] = t
	return t
}

// ProviderTarget returns the target that leads to a provider itself; nil: without a stored credential.
func ProviderTarget(p *Provider, c *Credential) *Target {
	t := &Target{Provider: p, Credential: c}
	t.Cluster = t.clusterName()
	return t
}

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
	digest := sha256.Sum256(fmt.Appendf(nil, "%s|%s|%s|%s|%t|%d", u.Scheme, u.Host, t.Provider.AuthHeader, t.Provider.Dialect, hasSecret, t.Provider.ID))
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
