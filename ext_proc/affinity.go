package extproc

import (
	"sync"

	"github.com/ls1intum/edutelligence/logos"
)

// affinity remembers which deployment served a session, or a prompt that begins alike, so that the next call
// finds its provider's cache warm. It is bounded: what was not used for a while is forgotten, and then the
// hash decides, by which all gateways agree.
type affinity struct {
	mu            sync.Mutex
	recent, older map[uint64]logos.DeploymentID
}

// maxAffinities is how many are remembered in a generation; there are two.
const maxAffinities = 32 << 10

// served returns which deployment served the hash last; 0: it is not known.
func (a *affinity) served(hash uint64) logos.DeploymentID {
	if hash == 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if id, ok := a.recent[hash]; ok {
		return id
	}
	id, ok := a.older[hash]
	if ok {
		a.put(hash, id)
	}
	return id
}

// note remembers who served.
func (a *affinity) note(hash uint64, id logos.DeploymentID) {
	if hash == 0 || id == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.put(hash, id)
}

func (a *affinity) put(hash uint64, id logos.DeploymentID) {
	if len(a.recent) >= maxAffinities {
		a.older, a.recent = a.recent, nil
	}
	if a.recent == nil {
		a.recent = make(map[uint64]logos.DeploymentID)
	}
	a.recent[hash] = id
}

// Served tells where a call was answered.
func (s *Server) Served(c *logos.Call) {
	f := c.Decision.Facts
	if f == nil || c.End != logos.EndOK || len(c.Attempts) == 0 {
		return
	}
	id := c.Attempts[len(c.Attempts)-1].Target.Deployment
	s.affinity.note(f.SessionHash, id)
	s.affinity.note(f.PrefixHash, id)
}
