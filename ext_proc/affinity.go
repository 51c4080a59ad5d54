package extproc

import (
	"sync"

	"github.com/ls1intum/edutelligence/logos"
)

// recalled remembers deployments by something. It is bounded: what was not used for a while is forgotten.
type recalled[K comparable] struct {
	mu            sync.Mutex
	recent, older map[K]logos.DeploymentID
}

// maxRecalled is how many are remembered in a generation; there are two.
const maxRecalled = 32 << 10

// get returns what was noted last; 0: it is not known.
func (r *recalled[K]) get(key K) logos.DeploymentID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id, ok := r.recent[key]; ok {
		return id
	}
	id, ok := r.older[key]
	if ok {
		r.put(key, id)
	}
	return id
}

func (r *recalled[K]) note(key K, id logos.DeploymentID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(key, id)
}

func (r *recalled[K]) put(key K, id logos.DeploymentID) {
	if len(r.recent) >= maxRecalled {
		r.older, r.recent = r.recent, nil
	}
	if r.recent == nil {
		r.recent = make(map[K]logos.DeploymentID)
	}
	r.recent[key] = id
}

// affinity remembers which deployment served a session, or a prompt that begins alike, so that the next call
// finds its provider's cache warm. What is forgotten the hash decides, by which all gateways agree.
type affinity struct{ recalled[uint64] }

// served returns which deployment served the hash last; 0: it is not known.
func (a *affinity) served(hash uint64) logos.DeploymentID {
	if hash == 0 {
		return 0
	}
	return a.get(hash)
}

// serves remembers who served.
func (a *affinity) serves(hash uint64, id logos.DeploymentID) {
	if hash != 0 && id != 0 {
		a.note(hash, id)
	}
}

// incumbents remembers what was chosen last for calls of one kind. Policies are named by what they are called, and
// may be renamed, so there is no end of kinds.
type incumbents struct{ recalled[incumbentKey] }

type incumbentKey struct {
	project logos.ProjectID
	policy  string
	model   logos.ModelID
}

// chosen remembers what was chosen, if that is not what it was.
func (i *incumbents) chosen(k incumbentKey, was, id logos.DeploymentID) {
	if id != was {
		i.note(k, id)
	}
}

// Served tells where a call was answered.
func (s *Server) Served(c *logos.Call) {
	f := c.Decision.Facts
	if f == nil || c.End != logos.EndOK || len(c.Attempts) == 0 {
		return
	}
	id := c.Attempts[len(c.Attempts)-1].Target.Deployment
	s.affinity.serves(f.SessionHash, id)
	s.affinity.serves(f.PrefixHash, id)
}
