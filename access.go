package logos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// A targetKey names a target by its parts; 0: it has none.
type targetKey struct {
	provider   ProviderID
	credential CredentialID
	deployment DeploymentID
}

func (t *Target) key() targetKey {
	k := targetKey{provider: t.Provider.ID}
	if t.Credential != nil {
		k.credential = t.Credential.ID
	}
	if t.Deployment != nil {
		k.deployment = t.Deployment.ID
	}
	return k
}

// A usedTarget is a target, with how often profiles lead to it. One that nothing leads to is no target.
type usedTarget struct {
	*Target
	uses int
}

// editOffers collects anew the deployments of each model that is to be looked at again.
func (c *Compiler) editOffers(d *dirt) error {
	if len(d.models) == 0 {
		return nil
	}
	for id := range d.models {
		delete(c.offers, id)
		delete(c.shared, id)
	}
	for _, x := range c.deployments {
		if !d.models[x.Model] || c.models[x.Model] == nil || c.providers[x.Provider] == nil {
			continue
		}
		if own := c.credentials[x.Credential]; own != nil && own.Provider != x.Provider {
			return fmt.Errorf("deployment %d has credential %d, which is not one of its provider's", x.ID, x.Credential)
		}
		c.offers[x.Model] = append(c.offers[x.Model], x)
	}
	for id := range d.models {
		slices.SortFunc(c.offers[id], func(x, y *Deployment) int { return cmp.Compare(x.ID, y.ID) })
	}
	return nil
}

// editAccess compiles profiles again, and brings the targets up to date.
func (c *Compiler) editAccess(d *dirt, next *Config) error {
	if len(d.profiles) == 0 {
		return nil
	}
	projects := make(map[ProjectID]bool)
	for id := range d.profiles { // what goes before what comes, so that no use is counted twice
		if was := c.access[id]; was != nil {
			projects[was.ProjectID] = true
			was.eachTarget(func(t *Target) { c.use(t, -1) })
			delete(c.access, id)
		}
	}
	for id := range d.profiles {
		p := c.profiles[id]
		if p == nil || c.projects[p.ProjectID] == nil {
			continue
		}
		a, err := c.compile(p)
		if err != nil {
			return fmt.Errorf("profile %d: %w", id, err)
		}
		projects[p.ProjectID] = true
		a.eachTarget(func(t *Target) { c.use(t, 1) })
		c.access[id] = a
	}
	next.profiles = c.byProject(next.profiles, projects)
	next.targets = c.usedTargets(next.targets)
	return nil
}

// use counts the ways that lead to a target. One that fell out of use may come back by a shared list.
func (c *Compiler) use(t *Target, n int) {
	key := t.key()
	used := c.targets[key]
	if used == nil {
		used = &usedTarget{Target: t}
		c.targets[key] = used
	}
	used.uses += n
}

// byProject returns the profiles of each project in order of id, those of some projects anew.
func (c *Compiler) byProject(was map[ProjectID][]*Access, changed map[ProjectID]bool) map[ProjectID][]*Access {
	out := maps.Clone(was)
	if out == nil {
		out = make(map[ProjectID][]*Access)
	}
	for id := range changed {
		delete(out, id)
	}
	for _, a := range c.access {
		if changed[a.ProjectID] {
			out[a.ProjectID] = append(out[a.ProjectID], a)
		}
	}
	for id := range changed {
		slices.SortFunc(out[id], func(x, y *Access) int { return cmp.Compare(x.ID, y.ID) })
	}
	return out
}

// usedTargets returns the targets in order of cluster name; the list that there was, if none has changed.
func (c *Compiler) usedTargets(was []*Target) []*Target {
	out := make([]*Target, 0, len(c.targets))
	for key, t := range c.targets {
		if t.uses == 0 {
			delete(c.targets, key)
			continue
		}
		out = append(out, t.Target)
	}
	slices.SortFunc(out, func(x, y *Target) int { return cmp.Compare(x.Cluster, y.Cluster) })
	if slices.Equal(out, was) {
		return was
	}
	return out
}

// eachTarget calls f for each way that leads to a target.
func (a *Access) eachTarget(f func(*Target)) {
	for _, list := range a.Candidates {
		for _, x := range list {
			if x.Target != nil {
				f(x.Target)
			}
		}
	}
	for _, r := range a.Routes {
		f(r.Own)
		if r.Stored != nil {
			f(r.Stored)
		}
	}
}

// compile works out what a profile leads to.
func (c *Compiler) compile(p *Profile) (*Access, error) {
	live := *p
	live.Grants = kept(p.Grants, func(g Grant) bool {
		return c.providers[g.Provider] != nil && (g.Credential == 0 || c.credentials[g.Credential] != nil)
	})
	live.Models = kept(p.Models, func(m ModelID) bool { return c.models[m] != nil })
	a := &Access{Profile: &live, Candidates: make(map[ModelID][]Candidate, len(live.Models))}
	own := make(map[ProviderID]*Credential, len(live.Grants)) // the profile's credential for a provider: its first
	for _, g := range live.Grants {
		credential := c.credentials[g.Credential]
		if credential != nil && credential.Provider != g.Provider {
			return nil, fmt.Errorf("it grants provider %d with credential %d, which do not belong together", g.Provider, g.Credential)
		}
		if own[g.Provider] == nil {
			own[g.Provider] = credential
		}
	}
	if p.Passthrough {
		a.Routes = c.routes(live.Grants, own)
	}
	for _, id := range live.Models {
		a.Candidates[id] = c.candidates(id, own)
	}
	return a, nil
}

// kept returns the list without what is not to be kept; the list itself where that is nothing.
func kept[T any](list []T, keep func(T) bool) []T {
	if !slices.ContainsFunc(list, func(x T) bool { return !keep(x) }) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(x T) bool { return !keep(x) })
}

// candidates returns the deployments of a model for a profile with those credentials. Where they don't
// depend on the profile, all profiles share one list.
func (c *Compiler) candidates(model ModelID, own map[ProviderID]*Credential) []Candidate {
	if list := c.shared[model]; list != nil {
		return list
	}
	shared := true
	list := make([]Candidate, 0, len(c.offers[model]))
	for _, d := range c.offers[model] {
		credential := c.credentials[d.Credential]
		if credential == nil { // it has none, or that is gone
			shared = false
			credential = own[d.Provider]
		}
		if credential == nil {
			list = append(list, Candidate{Deployment: d, Excluded: "no_credential"})
			continue
		}
		list = append(list, Candidate{Deployment: d, Target: c.target(c.providers[d.Provider], credential, d, c.models[model])})
	}
	if shared {
		c.shared[model] = list
	}
	return list
}

// routes makes one pass-through route for each provider granted.
func (c *Compiler) routes(grants []Grant, own map[ProviderID]*Credential) []PassthroughRoute {
	var out []PassthroughRoute
	seen := make(map[ProviderID]bool, len(grants))
	for _, g := range grants {
		if seen[g.Provider] {
			continue
		}
		seen[g.Provider] = true
		route := PassthroughRoute{Own: c.target(c.providers[g.Provider], nil, nil, nil)}
		if stored := own[g.Provider]; stored != nil {
			route.Stored = c.target(c.providers[g.Provider], stored, nil, nil)
		}
		out = append(out, route)
	}
	return out
}

// target returns the one target for these parts: the one that there is, if none of them has changed.
func (c *Compiler) target(p *Provider, credential *Credential, d *Deployment, m *Model) *Target {
	t := Target{Provider: p, Credential: credential, Deployment: d, Model: m}
	used := c.targets[t.key()]
	if used == nil {
		used = &usedTarget{}
		c.targets[t.key()] = used
	}
	if was := used.Target; was == nil || was.Provider != p || was.Credential != credential || was.Deployment != d || was.Model != m {
		t.Cluster = t.clusterName()
		used.Target = &t
	}
	return used.Target
}
