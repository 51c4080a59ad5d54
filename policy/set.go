package policy

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ls1intum/edutelligence/logos"
)

// A Set is the policies of one configuration, compiled. It is safe for parallel use. A nil one has no
// policies.
type Set struct {
	environment *environment
	catalog     *catalog
	entries     map[logos.PolicyID]*entry
	levels      map[owner][]*entry // in order of id
	scratch     sync.Pool          // of *scratch
}

// An owner is what has policies.
type owner struct {
	level logos.PolicyLevel
	id    int64
}

// An entry is a policy with its view of the catalog, which is made when it is first needed.
type entry struct {
	*program
	view atomic.Pointer[view]
}

// Compile compiles the policies of a configuration, given all its targets. What did not change is taken over
// from the set before, which may be nil. Its errors name the first policy that can't be used.
func Compile(targets []*logos.Target, policies []*logos.Policy, previous *Set) (*Set, error) {
	s := &Set{entries: make(map[logos.PolicyID]*entry, len(policies)), levels: make(map[owner][]*entry)}
	if previous == nil {
		env, err := newEnvironment()
		if err != nil {
			return nil, fmt.Errorf("set up CEL: %w", err)
		}
		previous = &Set{environment: env}
	}
	s.environment = previous.environment
	s.catalog = newCatalog(targets, previous.catalog)
	unchanged := s.catalog.same(previous.catalog)
	if unchanged {
		s.catalog = previous.catalog
	}
	for _, p := range slices.SortedFunc(slices.Values(policies), func(x, y *logos.Policy) int { return cmp.Compare(x.ID, y.ID) }) {
		e, err := s.entry(p, previous.entries[p.ID], unchanged)
		if err != nil {
			return nil, err
		}
		s.entries[p.ID] = e
		o := owner{p.Level, p.Owner}
		s.levels[o] = append(s.levels[o], e)
	}
	return s, nil
}

// entry compiles a policy, or takes it over.
func (s *Set) entry(p *logos.Policy, known *entry, sameCatalog bool) (*entry, error) {
	if known != nil && (known.policy == p || reflect.DeepEqual(known.policy, p)) {
		if sameCatalog {
			return known, nil
		}
		return &entry{program: known.program}, nil
	}
	compiled, found := s.environment.program(p)
	if len(found) > 0 {
		return nil, fmt.Errorf("policy %d (%.80q) can't be used: %s", p.ID, p.Name, found[0])
	}
	return &entry{program: compiled}, nil
}

// seen returns the entry's view of the set's catalog.
func (e *entry) seen(s *Set) *view {
	if v := e.view.Load(); v != nil {
		return v
	}
	v := e.program.view(s.environment, s.catalog)
	e.view.Store(v) // whoever else made one made the same
	return v
}

// Has says whether a call can name a policy: whether it is one of the installation, or of what the call
// belongs to.
func (s *Set) Has(name string, caller *Caller, profiles []*logos.Access) bool {
	if s == nil {
		return false
	}
	found := false
	s.each(caller, profiles, func(e *entry, _ *logos.Access) { found = found || e.policy.Name == name })
	return found
}

// Names returns the policies that a call has to name to be under them, and can.
func (s *Set) Names(caller *Caller, profiles []*logos.Access) (names []string) {
	if s == nil {
		return nil
	}
	s.each(caller, profiles, func(e *entry, _ *logos.Access) {
		if e.policy.OnRequest {
			names = append(names, e.policy.Name)
		}
	})
	return names
}

// each visits the policies that may apply to a caller's calls, the highest level first.
func (s *Set) each(c *Caller, profiles []*logos.Access, visit func(*entry, *logos.Access)) {
	all := func(level logos.PolicyLevel, id int64, profile *logos.Access) {
		for _, e := range s.levels[owner{level, id}] {
			visit(e, profile)
		}
	}
	all(logos.LevelInstallation, 0, nil)
	if c.Team != 0 {
		all(logos.LevelTeam, int64(c.Team), nil)
	}
	all(logos.LevelProject, int64(c.Project), nil)
	for _, p := range profiles {
		all(logos.LevelProfile, int64(p.ID), p)
	}
	all(logos.LevelAPIKey, int64(c.Key), nil)
}
