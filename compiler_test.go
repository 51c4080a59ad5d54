package logos_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// A store is what a database holds: rows, of which some are marked as deleted.
type store struct {
	rand        *rand.Rand
	teams       table[logos.TeamID, logos.Team]
	policies    table[logos.PolicyID, logos.Policy]
	budgets     table[logos.BudgetID, logos.Budget]
	prices      table[logos.PriceID, logos.Price]
	tasks       []logos.TaskMatcher
	projects    table[logos.ProjectID, logos.Project]
	members     table[logos.MemberID, logos.Member]
	keys        table[logos.APIKeyID, logos.APIKey]
	profiles    table[logos.ProfileID, logos.Profile]
	providers   table[logos.ProviderID, logos.Provider]
	credentials table[logos.CredentialID, logos.Credential]
	models      table[logos.ModelID, logos.Model]
	deployments table[logos.DeploymentID, logos.Deployment]
	hashes      []logos.KeyHash // that some key ever had
}

// A table holds rows by id, and what has happened to them since the last revision.
type table[ID ~int64, R any] struct {
	rows    map[ID]R
	deleted map[ID]bool
	touched map[ID]bool
}

func newTable[ID ~int64, R any]() table[ID, R] {
	return table[ID, R]{make(map[ID]R), make(map[ID]bool), make(map[ID]bool)}
}

func (t *table[ID, R]) set(id ID, r R) { t.rows[id], t.touched[id] = r, true }

// there returns what is not deleted.
func (t *table[ID, R]) there() (out []*R) {
	for _, id := range slices.Sorted(maps.Keys(t.rows)) {
		if r := t.rows[id]; !t.deleted[id] {
			out = append(out, &r)
		}
	}
	return out
}

// changes returns what has happened, and forgets it.
func (t *table[ID, R]) changes() (set []*R, gone []ID) {
	for id := range t.touched {
		if r := t.rows[id]; !t.deleted[id] {
			set = append(set, &r)
		} else {
			gone = append(gone, id)
		}
	}
	clear(t.touched)
	return set, gone
}

// toggle deletes a row, if it may, or brings it back.
func (t *table[ID, R]) toggle(id ID, deletes bool) {
	if _, ok := t.rows[id]; ok && (deletes || t.deleted[id]) {
		t.deleted[id], t.touched[id] = !t.deleted[id], true
	}
}

func newStore(seed uint64) *store {
	return &store{
		rand: rand.New(rand.NewPCG(seed, 1)), teams: newTable[logos.TeamID, logos.Team](), policies: newTable[logos.PolicyID, logos.Policy](), budgets: newTable[logos.BudgetID, logos.Budget](), prices: newTable[logos.PriceID, logos.Price](), projects: newTable[logos.ProjectID, logos.Project](), members: newTable[logos.MemberID, logos.Member](),
		keys: newTable[logos.APIKeyID, logos.APIKey](), profiles: newTable[logos.ProfileID, logos.Profile](), providers: newTable[logos.ProviderID, logos.Provider](),
		credentials: newTable[logos.CredentialID, logos.Credential](), models: newTable[logos.ModelID, logos.Model](), deployments: newTable[logos.DeploymentID, logos.Deployment](),
	}
}

// few is how many ids of each kind there are: so few that most changes meet what is there.
const few = 6

func id[ID ~int64](s *store) ID { return ID(1 + s.rand.IntN(few)) }

// step changes one row.
func (s *store) step() {
	switch s.rand.IntN(19) {
	case 0:
		n := id[logos.ProjectID](s)
		s.projects.set(n, logos.Project{ID: n, Name: fmt.Sprint("j", n, "-", s.rand.IntN(2))})
	case 1:
		n := id[logos.MemberID](s)
		s.members.set(n, logos.Member{ID: n, Role: []logos.Role{logos.RoleMember, logos.RoleViewer}[s.rand.IntN(2)]})
	case 2, 3, 4:
		s.key()
	case 5, 6:
		s.profile()
	case 7:
		s.provider()
	case 8:
		s.credential()
	case 9:
		n := id[logos.ModelID](s)
		s.models.set(n, logos.Model{ID: n, Name: fmt.Sprintf("m%d-%d", n, s.rand.IntN(2))})
	case 10, 11:
		s.deployment()
	case 12:
		n := id[logos.TeamID](s)
		s.teams.set(n, logos.Team{ID: n, Name: fmt.Sprint("t", s.rand.IntN(3))})
	case 13:
		n := id[logos.PolicyID](s)
		s.policies.set(n, logos.Policy{ID: n, Name: fmt.Sprint("p", s.rand.IntN(3))})
		budget := logos.BudgetID(n)
		s.budgets.set(budget, logos.Budget{ID: budget, Name: fmt.Sprint("b", s.rand.IntN(3))})
		price := logos.PriceID(n)
		s.prices.set(price, logos.Price{ID: price, Meter: logos.MeterInput, Amount: decimal.NewFromInt(s.rand.Int64N(3))})
	case 14:
		s.tasks = []logos.TaskMatcher{{Name: fmt.Sprint("t", s.rand.IntN(3))}}[:s.rand.IntN(2)]
	default:
		s.toggle()
	}
}

func (s *store) toggle() {
	n, deletes := int64(1+s.rand.IntN(few)), s.rand.IntN(4) == 0 // most is there most of the time
	switch s.rand.IntN(10) {
	case 8:
		s.teams.toggle(logos.TeamID(n), deletes)
	case 9:
		s.policies.toggle(logos.PolicyID(n), deletes)
		s.prices.toggle(logos.PriceID(n), deletes)
		s.budgets.toggle(logos.BudgetID(n), deletes)
	case 0:
		s.projects.toggle(logos.ProjectID(n), deletes)
	case 1:
		s.members.toggle(logos.MemberID(n), deletes)
	case 2:
		s.keys.toggle(logos.APIKeyID(n), deletes)
	case 3:
		s.profiles.toggle(logos.ProfileID(n), deletes)
	case 4:
		s.providers.toggle(logos.ProviderID(n), deletes)
	case 5:
		s.credentials.toggle(logos.CredentialID(n), deletes)
	case 6:
		s.models.toggle(logos.ModelID(n), deletes)
	case 7:
		s.deployments.toggle(logos.DeploymentID(n), deletes)
	}
}

// key makes, rotates or moves a key. A new hash may be one that another key had before.
func (s *store) key() {
	n := id[logos.APIKeyID](s)
	k := s.keys.rows[n]
	if k.Hash != (logos.KeyHash{}) && s.rand.IntN(2) == 0 {
		k.PreviousHash, k.PreviousExpiresAt = k.Hash, time.Unix(int64(s.rand.IntN(3)), 0)
	}
	for {
		k.Hash = logos.KeyHash{byte(s.rand.IntN(8)), byte(s.rand.IntN(4))}
		taken := false
		for other, x := range s.keys.rows {
			taken = taken || other != n && (x.Hash == k.Hash || x.PreviousHash == k.PreviousHash && x.PreviousHash != logos.KeyHash{})
		}
		if !taken {
			break
		}
		k.PreviousHash, k.PreviousExpiresAt = logos.KeyHash{}, time.Time{}
	}
	s.hashes = append(s.hashes, k.Hash)
	k.ID, k.ProjectID, k.MemberID = n, id[logos.ProjectID](s), logos.MemberID(s.rand.IntN(3))
	k.Role, k.Revoked = []logos.Role{logos.RoleMember, logos.RoleService}[s.rand.IntN(2)], s.rand.IntN(4) == 0
	s.keys.set(n, k)
}

func (s *store) profile() {
	n := id[logos.ProfileID](s)
	p := logos.Profile{ID: n, ProjectID: id[logos.ProjectID](s), Name: fmt.Sprint("p", n), Passthrough: s.rand.IntN(2) == 0}
	for m := range logos.ModelID(few) {
		if s.rand.IntN(2) == 0 {
			p.Models = append(p.Models, m+1)
		}
	}
	for range s.rand.IntN(4) {
		g := logos.Grant{Provider: id[logos.ProviderID](s)}
		if c, ok := s.credentials.rows[logos.CredentialID(g.Provider)]; ok && s.rand.IntN(3) > 0 {
			g.Credential = c.ID
		}
		if !slices.Contains(p.Grants, g) {
			p.Grants = append(p.Grants, g)
		}
	}
	s.profiles.set(n, p)
}

func (s *store) provider() {
	n := id[logos.ProviderID](s)
	base := &url.URL{Scheme: "https", Host: fmt.Sprintf("p%d-%d.example", n, s.rand.IntN(2))}
	s.providers.set(n, logos.Provider{ID: n, Name: fmt.Sprint("p", n), BaseURL: base, AuthHeader: "authorization"})
}

// credential changes the one of a provider that has its id.
func (s *store) credential() {
	n := id[logos.CredentialID](s)
	s.credentials.set(n, logos.Credential{ID: n, Provider: logos.ProviderID(n), Secret: logos.Secret([]string{"", "a", "b"}[s.rand.IntN(3)])})
}

func (s *store) deployment() {
	n := id[logos.DeploymentID](s)
	d := logos.Deployment{ID: n, Model: id[logos.ModelID](s), Provider: id[logos.ProviderID](s), MaxParallel: s.rand.IntN(2)}
	if _, ok := s.credentials.rows[logos.CredentialID(d.Provider)]; ok && s.rand.IntN(2) == 0 {
		d.Credential = logos.CredentialID(d.Provider)
	}
	s.deployments.set(n, d)
}

func (s *store) all() logos.Resources {
	return logos.Resources{
		Teams: s.teams.there(), Policies: s.policies.there(), Budgets: s.budgets.there(), Prices: s.prices.there(), Tasks: s.tasks,
		Projects: s.projects.there(), Members: s.members.there(), APIKeys: s.keys.there(), Profiles: s.profiles.there(),
		Providers: s.providers.there(), Credentials: s.credentials.there(), Models: s.models.there(), Deployments: s.deployments.there(),
	}
}

func (s *store) changes() (c logos.Changes) {
	c.Teams, c.Gone.Teams = s.teams.changes()
	c.Policies, c.Gone.Policies = s.policies.changes()
	c.Budgets, c.Gone.Budgets = s.budgets.changes()
	c.Prices, c.Gone.Prices = s.prices.changes()
	c.Tasks = s.tasks
	c.Projects, c.Gone.Projects = s.projects.changes()
	c.Members, c.Gone.Members = s.members.changes()
	c.APIKeys, c.Gone.APIKeys = s.keys.changes()
	c.Profiles, c.Gone.Profiles = s.profiles.changes()
	c.Providers, c.Gone.Providers = s.providers.changes()
	c.Credentials, c.Gone.Credentials = s.credentials.changes()
	c.Models, c.Gone.Models = s.models.changes()
	c.Deployments, c.Gone.Deployments = s.deployments.changes()
	return c
}

// seen is everything that a Config answers.
type seen struct {
	Keys     map[logos.KeyHash]*logos.APIKey
	Projects map[logos.ProjectID]*logos.Project
	Access   map[logos.ProjectID][]*logos.Access
	Models   map[logos.ModelID]*logos.Model
	Names    map[string]logos.ModelID
	Targets  []*logos.Target
	Teams    map[logos.TeamID]*logos.Team
	Policies []*logos.Policy
	Budgets  []*logos.Budget
	Prices   []*logos.Price
	Tasks    []logos.TaskMatcher
}

func (s *store) look(c *logos.Config) seen {
	out := seen{
		make(map[logos.KeyHash]*logos.APIKey), make(map[logos.ProjectID]*logos.Project), make(map[logos.ProjectID][]*logos.Access),
		make(map[logos.ModelID]*logos.Model), make(map[string]logos.ModelID), c.Targets(),
		make(map[logos.TeamID]*logos.Team), c.Policies(), c.Budgets(), c.Prices(), *c.Tasks(),
	}
	for _, h := range s.hashes {
		out.Keys[h] = c.APIKey(h)
	}
	for n := range int64(few) {
		out.Teams[logos.TeamID(n+1)] = c.Team(logos.TeamID(n + 1))
		project, model := logos.ProjectID(n+1), logos.ModelID(n+1)
		out.Projects[project], out.Models[model] = c.Project(project), c.ModelByID(model)
		if list := c.Profiles(project); len(list) > 0 {
			out.Access[project] = list
		}
		for v := range 2 {
			name := fmt.Sprintf("m%d-%d", model, v)
			if m := c.Model(name); m != nil {
				out.Names[name] = m.ID
			}
		}
	}
	return out
}

var sameConfig = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(x, y netip.Prefix) bool { return x == y }), cmp.Comparer(func(x, y logos.Secret) bool { return x == y })}

func TestChangesLeadToWhatAFreshCompilationGives(t *testing.T) {
	t.Parallel()
	targets := make(map[int]bool)
	for seed := range uint64(25) {
		s := newStore(seed)
		c := logos.NewCompiler(logos.Hasher{})
		for range 100 {
			s.step()
		}
		var past [][2]*logos.Config
		for revision := range int64(25) {
			fresh, err := logos.NewConfig(revision, s.all())
			if err != nil {
				t.Fatalf("seed %d, revision %d: %v", seed, revision, err)
			}
			next, err := c.Apply(revision, s.changes())
			if err != nil {
				t.Fatalf("seed %d, revision %d: %v", seed, revision, err)
			}
			if diff := cmp.Diff(s.look(fresh), s.look(next), sameConfig); diff != "" || next.Revision != revision {
				t.Fatalf("seed %d, revision %d: a fresh compilation gives another configuration (-fresh +changed):\n%s", seed, revision, diff)
			}
			targets[len(next.Targets())] = true
			past = append(past, [2]*logos.Config{fresh, next})
			for range 1 + s.rand.IntN(3) {
				s.step()
			}
		}
		for i := range past {
			if diff := cmp.Diff(s.look(past[i][0]), s.look(past[i][1]), sameConfig); diff != "" && i%6 == 0 {
				t.Fatalf("seed %d, revision %d was changed by later ones (-fresh +changed):\n%s", seed, i, diff)
			}
		}
	}
	if len(targets) < 6 {
		t.Errorf("the installations have few numbers of targets alone: %v", targets)
	}
}

func TestWhatDidNotChangeIsShared(t *testing.T) {
	c := logos.NewCompiler(logos.Hasher{})
	first, err := c.Apply(1, logos.Changes{Resources: resources(t)})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(ch logos.Changes) *logos.Config {
		t.Helper()
		next, err := c.Apply(first.Revision+1, ch)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	key := logos.APIKey{ID: 2, ProjectID: 1, Hash: logos.KeyHash{2}}
	next := apply(logos.Changes{Resources: logos.Resources{APIKeys: []*logos.APIKey{&key}}})
	if next.APIKey(key.Hash) != &key || next.APIKey(logos.KeyHash{1}) != first.APIKey(logos.KeyHash{1}) || first.APIKey(key.Hash) != nil {
		t.Error("a new key is not there, changes another, or is in the revision before")
	}
	if &next.Targets()[0] != &first.Targets()[0] || next.Profiles(1)[0] != first.Profiles(1)[0] {
		t.Error("a new key makes targets or profiles anew")
	}
	if !next.SameRoutes(first) {
		t.Error("a new key counts as a change of what calls may be sent to")
	}
	again := apply(logos.Changes{Resources: resources(t)})
	if &again.Targets()[0] != &first.Targets()[0] {
		t.Error("rows that say what they said make targets anew")
	}
	renamed := logos.Project{ID: 1, Name: "renamed"}
	next = apply(logos.Changes{Resources: logos.Resources{Projects: []*logos.Project{&renamed}}})
	if &next.Targets()[0] != &first.Targets()[0] || next.Project(1).Name != "renamed" || first.Project(1).Name != "app" {
		t.Error("a project's new name makes targets anew, is not there, or changes the revision before")
	}
}

func TestCallersCountBeforeRoutesDo(t *testing.T) {
	c := logos.NewCompiler(logos.Hasher{})
	first, err := c.Apply(1, logos.Changes{Resources: resources(t)})
	if err != nil {
		t.Fatal(err)
	}
	for name, ch := range map[string]logos.Changes{
		"a provider":   {Resources: logos.Resources{Providers: []*logos.Provider{{ID: 1, Name: "moved", BaseURL: mustURL(t, "https://moved.example")}}}},
		"a credential": {Resources: logos.Resources{Credentials: []*logos.Credential{{ID: 1, Provider: 1, Secret: "sk-2"}}}},
		"a model":      {Gone: logos.Gone{Models: []logos.ModelID{1}}},
		"a deployment": {Gone: logos.Gone{Deployments: []logos.DeploymentID{1}}},
		"a profile":    {Gone: logos.Gone{Profiles: []logos.ProfileID{1}}},
		"the hosts":    {Resources: logos.Resources{Egress: logos.Egress{Hosts: []string{"inside"}}}},
	} {
		next, err := c.Apply(2, ch)
		if err != nil {
			t.Fatal(err)
		}
		if next.SameRoutes(first) {
			t.Errorf("a change of %s does not count as one of what calls may be sent to", name)
		}
	}
	last, err := c.Apply(3, logos.Changes{Gone: logos.Gone{APIKeys: []logos.APIKeyID{1}}})
	if err != nil {
		t.Fatal(err)
	}
	mixed := last.WithRoutes(first)
	if mixed.APIKey(logos.KeyHash{1}) != nil || first.APIKey(logos.KeyHash{1}) == nil {
		t.Error("a key that is gone is there with the routes of before, or no longer in the revision before")
	}
	if mixed.Revision != first.Revision || !mixed.SameRoutes(first) || &mixed.Targets()[0] != &first.Targets()[0] || mixed.Profiles(1)[0] != first.Profiles(1)[0] {
		t.Error("the routes are not those of before")
	}
}

func TestWhatHangsOnSomethingGoneIsLeftOut(t *testing.T) {
	for name, gone := range map[string]logos.Gone{
		"the project":                  {Projects: []logos.ProjectID{1}},
		"the provider":                 {Providers: []logos.ProviderID{1}},
		"the provider's credential":    {Credentials: []logos.CredentialID{1}},
		"the model":                    {Models: []logos.ModelID{1}},
		"the deployment":               {Deployments: []logos.DeploymentID{1}},
		"the profile":                  {Profiles: []logos.ProfileID{1}},
		"everything but the resources": {Projects: []logos.ProjectID{1}, Profiles: []logos.ProfileID{1}, APIKeys: []logos.APIKeyID{1}},
	} {
		c := logos.NewCompiler(logos.Hasher{})
		if _, err := c.Apply(1, logos.Changes{Resources: resources(t)}); err != nil {
			t.Fatal(err)
		}
		next, err := c.Apply(2, logos.Changes{Gone: gone})
		if err != nil {
			t.Errorf("without %s: %v", name, err)
			continue
		}
		if n := len(next.Targets()); n != 0 {
			t.Errorf("without %s there are %d targets", name, n)
		}
		if got := next.APIKey(logos.KeyHash{1}) != nil; got != (len(gone.Projects) == 0) {
			t.Errorf("without %s there is a key: %t", name, got)
		}
	}
}

func TestAKeyIsAsItsMemberIs(t *testing.T) {
	r := resources(t)
	r.Members = []*logos.Member{{ID: 3, Role: logos.RoleMember}}
	r.APIKeys = append(r.APIKeys, &logos.APIKey{ID: 2, ProjectID: 1, MemberID: 3, Role: logos.RoleMember, Hash: logos.KeyHash{2}, PreviousHash: logos.KeyHash{3}, PreviousExpiresAt: time.Unix(9, 0)})
	c := logos.NewCompiler(logos.Hasher{})
	hash := []logos.KeyHash{{2}, {3}}
	for revision, ch := range []logos.Changes{
		{Resources: r},
		{Resources: logos.Resources{Members: []*logos.Member{{ID: 3, Role: logos.RoleViewer}}}},
		{Gone: logos.Gone{Members: []logos.MemberID{3}}},
		{Resources: logos.Resources{Members: []*logos.Member{{ID: 3, Role: logos.RoleAdmin}}}},
	} {
		config, err := c.Apply(int64(revision), ch)
		if err != nil {
			t.Fatal(err)
		}
		want := []logos.Role{logos.RoleMember, logos.RoleViewer, "", logos.RoleAdmin}[revision]
		for _, h := range hash {
			if k := config.APIKey(h); (k == nil) != (want == "") || k != nil && k.Role != want {
				t.Errorf("in revision %d the key is %+v, want role %q", revision, k, want)
			}
		}
	}
}
