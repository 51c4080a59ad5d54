package logos

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Changes is how a revision differs from the one before: the rows added or changed, and the ids of those
// that are gone.
type Changes struct {
	Resources
	Gone Gone
}

// Gone holds the ids of deleted rows.
type Gone struct {
	Teams       []TeamID
	Projects    []ProjectID
	Members     []MemberID
	APIKeys     []APIKeyID
	Profiles    []ProfileID
	Providers   []ProviderID
	Credentials []CredentialID
	Models      []ModelID
	Deployments []DeploymentID
	Policies    []PolicyID
	Prices      []PriceID
	Budgets     []BudgetID
}

// A Compiler makes the Config of each revision out of that of the one before and of what has changed, in a
// time that depends on how much that is and not on how much there is. It keeps the rows; what hangs on a
// row that is gone is left out of the Config until its parent comes back.
//
// One goroutine owns a Compiler. After an error it stands between two revisions and is of no more use.
type Compiler struct {
	rows
	offers  map[ModelID][]*Deployment // deployments of models and at providers that are there, in order of id
	shared  map[ModelID][]Candidate   // of models whose deployments all have credentials of their own
	access  map[ProfileID]*Access
	targets map[targetKey]*usedTarget
	digests int // keys with Digest
	last    *Config
}

// rows are the resources by id, those that hang on a row that is gone included.
type rows struct {
	teams       map[TeamID]*Team
	projects    map[ProjectID]*Project
	members     map[MemberID]*Member
	keys        map[APIKeyID]*APIKey
	profiles    map[ProfileID]*Profile
	providers   map[ProviderID]*Provider
	credentials map[CredentialID]*Credential
	models      map[ModelID]*Model
	deployments map[DeploymentID]*Deployment
	policies    map[PolicyID]*Policy
	prices      map[PriceID]*Price
	budgets     map[BudgetID]*Budget
}

// NewCompiler makes a compiler that has no rows yet.
func NewCompiler(hasher Hasher) *Compiler {
	return &Compiler{
		rows: rows{
			teams: make(map[TeamID]*Team), policies: make(map[PolicyID]*Policy), prices: make(map[PriceID]*Price), budgets: make(map[BudgetID]*Budget),
			projects: make(map[ProjectID]*Project), members: make(map[MemberID]*Member), keys: make(map[APIKeyID]*APIKey),
			profiles: make(map[ProfileID]*Profile), providers: make(map[ProviderID]*Provider), credentials: make(map[CredentialID]*Credential),
			models: make(map[ModelID]*Model), deployments: make(map[DeploymentID]*Deployment),
		},
		offers: make(map[ModelID][]*Deployment), shared: make(map[ModelID][]Candidate),
		access: make(map[ProfileID]*Access), targets: make(map[targetKey]*usedTarget),
		last: &Config{Hasher: hasher, callers: callers{keys: &keyTable{}, previous: &keyTable{}, tasks: new([]TaskMatcher)}},
	}
}

// NewConfig compiles the resources of a revision from nothing; see [Compiler.Apply].
func NewConfig(revision int64, r Resources) (*Config, error) {
	return NewCompiler(r.Hasher).Apply(revision, Changes{Resources: r})
}

// Apply returns the Config of the next revision. It refuses resources that contradict one another, naming
// a contradiction; the caller then keeps the last good configuration.
func (c *Compiler) Apply(revision int64, ch Changes) (*Config, error) {
	next := *c.last
	next.Revision, next.Egress = revision, ch.Egress
	d := c.merge(&ch)
	c.spread(d)
	if err := c.check(d); err != nil {
		return nil, err
	}
	c.editCallers(d, ch.Tasks, &next)
	if len(d.modelRows) > 0 {
		next.models, next.modelName = maps.Clone(c.models), make(map[string]*Model, len(c.models))
		for _, m := range c.models {
			next.modelName[m.Name] = m
		}
	}
	if len(d.providers)+len(d.deployments) > 0 {
		next.providers = maps.Clone(c.providers)
		next.credentials, next.deployments = slices.Collect(maps.Values(c.credentials)), slices.Collect(maps.Values(c.deployments))
	}
	c.editKeys(d, &next)
	if err := c.editOffers(d); err != nil {
		return nil, err
	}
	if err := c.editAccess(d, &next); err != nil {
		return nil, err
	}
	if d.routes() || c.last.since == nil || !next.Egress.equal(c.last.Egress) {
		next.since = &revision
	}
	c.last = &next
	return &next, nil
}

// editCallers brings up to date who may call, what policies demand, and what calls cost and may cost, but for keys.
func (c *Compiler) editCallers(d *dirt, tasks []TaskMatcher, next *Config) {
	if len(d.teams) > 0 {
		next.teams = maps.Clone(c.teams)
	}
	if len(d.projects) > 0 {
		next.projects = maps.Clone(c.projects)
	}
	if len(d.policies) > 0 {
		next.policies = slices.SortedFunc(maps.Values(c.policies), func(x, y *Policy) int { return cmp.Compare(x.ID, y.ID) })
	}
	if len(d.prices) > 0 {
		next.prices = slices.SortedFunc(maps.Values(c.prices), func(x, y *Price) int { return cmp.Compare(x.ID, y.ID) })
	}
	if len(d.budgets) > 0 {
		next.budgets = slices.SortedFunc(maps.Values(c.budgets), func(x, y *Budget) int { return cmp.Compare(x.ID, y.ID) })
	}
	if len(tasks)+len(*next.tasks) > 0 && !reflect.DeepEqual(tasks, *next.tasks) {
		next.tasks = &tasks
	}
}

// dirt is what a change touches: first the rows that changed, then what depends on them.
type dirt struct {
	teams       map[TeamID]bool
	policies    map[PolicyID]bool
	prices      map[PriceID]bool
	budgets     map[BudgetID]bool
	projects    map[ProjectID]bool
	members     map[MemberID]bool
	keys        map[APIKeyID]*APIKey // as they were; nil: new
	profiles    map[ProfileID]bool
	providers   map[ProviderID]bool
	models      map[ModelID]bool // whose deployments are to be looked at again
	modelRows   map[ModelID]bool
	deployments map[DeploymentID]bool
}

// routes says whether what calls may be sent to is touched.
func (d *dirt) routes() bool {
	return len(d.profiles)+len(d.providers)+len(d.models)+len(d.modelRows)+len(d.deployments) > 0
}

// merge brings the rows up to date. A row that is what it was already does not count as changed.
func (c *Compiler) merge(ch *Changes) *dirt {
	d := &dirt{
		teams: make(map[TeamID]bool), policies: make(map[PolicyID]bool), prices: make(map[PriceID]bool), budgets: make(map[BudgetID]bool),
		projects: make(map[ProjectID]bool), members: make(map[MemberID]bool), keys: make(map[APIKeyID]*APIKey),
		profiles: make(map[ProfileID]bool), providers: make(map[ProviderID]bool), models: make(map[ModelID]bool),
		modelRows: make(map[ModelID]bool), deployments: make(map[DeploymentID]bool),
	}
	mergeRows(c.teams, ch.Teams, ch.Gone.Teams, func(t *Team) TeamID { return t.ID },
		func(id TeamID, _ *Team) { d.teams[id] = true })
	mergeRows(c.policies, ch.Policies, ch.Gone.Policies, func(p *Policy) PolicyID { return p.ID },
		func(id PolicyID, _ *Policy) { d.policies[id] = true })
	mergeRows(c.budgets, ch.Budgets, ch.Gone.Budgets, func(b *Budget) BudgetID { return b.ID },
		func(id BudgetID, _ *Budget) { d.budgets[id] = true })
	mergeRows(c.prices, ch.Prices, ch.Gone.Prices, func(p *Price) PriceID { return p.ID },
		func(id PriceID, _ *Price) { d.prices[id] = true })
	mergeRows(c.projects, ch.Projects, ch.Gone.Projects, func(p *Project) ProjectID { return p.ID },
		func(id ProjectID, _ *Project) { d.projects[id] = true })
	mergeRows(c.members, ch.Members, ch.Gone.Members, func(m *Member) MemberID { return m.ID },
		func(id MemberID, _ *Member) { d.members[id] = true })
	mergeRows(c.keys, ch.APIKeys, ch.Gone.APIKeys, func(k *APIKey) APIKeyID { return k.ID },
		func(id APIKeyID, was *APIKey) {
			d.keys[id] = was
			c.digests += c.keys[id].countDigest() - was.countDigest()
		})
	mergeRows(c.profiles, ch.Profiles, ch.Gone.Profiles, func(p *Profile) ProfileID { return p.ID },
		func(id ProfileID, _ *Profile) { d.profiles[id] = true })
	mergeRows(c.providers, ch.Providers, ch.Gone.Providers, func(p *Provider) ProviderID { return p.ID },
		func(id ProviderID, _ *Provider) { d.providers[id] = true })
	mergeRows(c.models, ch.Models, ch.Gone.Models, func(m *Model) ModelID { return m.ID },
		func(id ModelID, _ *Model) { d.models[id], d.modelRows[id] = true, true })
	touch := func(p *Credential) {
		if p != nil {
			d.providers[p.Provider] = true
		}
	}
	mergeRows(c.credentials, ch.Credentials, ch.Gone.Credentials, func(p *Credential) CredentialID { return p.ID },
		func(id CredentialID, was *Credential) { touch(was); touch(c.credentials[id]) })
	mergeRows(c.deployments, ch.Deployments, ch.Gone.Deployments, func(p *Deployment) DeploymentID { return p.ID },
		func(id DeploymentID, was *Deployment) {
			d.deployments[id] = true
			if was != nil {
				d.models[was.Model] = true
			}
		})
	return d
}

// mergeRows brings the rows of one kind up to date, and calls touched with each that changed and what it was.
func mergeRows[ID comparable, R any](rows map[ID]*R, changed []*R, gone []ID, id func(*R) ID, touched func(id ID, was *R)) {
	for _, r := range changed {
		was := rows[id(r)]
		if was != nil && reflect.DeepEqual(was, r) {
			continue
		}
		rows[id(r)] = r
		touched(id(r), was)
	}
	for _, id := range gone {
		if was := rows[id]; was != nil {
			delete(rows, id)
			touched(id, was)
		}
	}
}

// spread adds what depends on rows that changed. It looks through all deployments and profiles, of which
// there are few enough, rather than keep indexes that could be wrong; changes of keys alone do not come here.
func (c *Compiler) spread(d *dirt) {
	if len(d.providers)+len(d.deployments) > 0 {
		for id, x := range c.deployments {
			if d.providers[x.Provider] || d.deployments[id] {
				d.models[x.Model] = true
			}
		}
	}
	if len(d.providers)+len(d.models)+len(d.projects) == 0 {
		return
	}
	for id, p := range c.profiles {
		if d.projects[p.ProjectID] || slices.ContainsFunc(p.Models, func(m ModelID) bool { return d.models[m] }) ||
			slices.ContainsFunc(p.Grants, func(g Grant) bool { return d.providers[g.Provider] }) {
			d.profiles[id] = true
		}
	}
}

// check refuses rows that can't be used whatever else there is.
func (c *Compiler) check(d *dirt) error {
	for id := range d.providers {
		if p := c.providers[id]; p != nil && !p.usable() {
			return fmt.Errorf("provider %d has no usable base URL", id)
		}
	}
	return nil
}

func (p *Provider) usable() bool {
	return p.BaseURL != nil && p.BaseURL.Hostname() != "" && (p.BaseURL.Scheme == "http" || p.BaseURL.Scheme == "https")
}

// editKeys brings the tables of keys up to date.
func (c *Compiler) editKeys(d *dirt, next *Config) {
	if len(d.projects)+len(d.members) > 0 { // seldom: then all keys are looked through
		for id, k := range c.keys {
			if _, known := d.keys[id]; !known && (d.projects[k.ProjectID] || d.members[k.MemberID]) {
				d.keys[id] = k
			}
		}
	}
	if len(d.keys) == 0 {
		return
	}
	present, previous := editKeys(next.keys), editKeys(next.previous)
	for id, was := range d.keys { // first all that goes: one key may get the hash that another had
		if was != nil {
			present.drop(was.Hash, id)
			previous.drop(was.PreviousHash, id)
		}
	}
	for id := range d.keys {
		k := c.effective(c.keys[id])
		if k == nil {
			continue
		}
		present.put(k.Hash, k)
		if !k.PreviousExpiresAt.IsZero() {
			previous.put(k.PreviousHash, k)
		}
	}
	next.keys, next.previous, next.digests = present.table, previous.table, c.digests > 0
}

// countDigest returns 1 for a key with Digest, else 0.
func (k *APIKey) countDigest() int {
	if k != nil && k.Digest {
		return 1
	}
	return 0
}

// effective returns a key as it works: with its member's role. It is nil if the key, its project or its
// member is gone.
func (c *Compiler) effective(k *APIKey) *APIKey {
	if k == nil || c.projects[k.ProjectID] == nil {
		return nil
	}
	if k.MemberID == 0 {
		return k
	}
	member := c.members[k.MemberID]
	if member == nil {
		return nil
	}
	if member.Role == k.Role {
		return k
	}
	own := *k
	own.Role = member.Role
	return &own
}
