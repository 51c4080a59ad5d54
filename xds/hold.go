package xds

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// A holding is a target that somebody needs for a while.
type holding struct {
	target *logos.Target
	by     int // how many need it
}

// Hold gives Envoy a cluster for a target, configured or not, until release is called, and returns when
// Envoy can use it. It is for trying a provider that no access profile grants yet.
func (s *Server) Hold(ctx context.Context, t *logos.Target) (release func(), err error) {
	done, err := s.hold(t)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !closed(done) || !s.Active(t.Cluster) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.release(t)
			return nil, logos.Errorf(logos.Unavailable, "gateway_unavailable", "Envoy has not made the provider's cluster ready in time: see /readyz, and try again")
		}
	}
	return func() { s.release(t) }, nil
}

// hold returns what is closed when Envoy has the target as it is now.
func (s *Server) hold(t *logos.Target) (done <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config == nil || len(s.streams) == 0 {
		return nil, logos.Errorf(logos.Unavailable, "gateway_unavailable", "no Envoy is connected to this gateway: try again when /readyz says that it is ready")
	}
	h := s.held[t.Cluster]
	if h == nil {
		h = &holding{target: t}
		s.held[t.Cluster] = h
	}
	h.by++
	if s.configured(t) {
		return s.whenDone, nil
	}
	h.target = t // its credential may have changed
	if _, err := s.push(); err != nil {
		delete(s.held, t.Cluster)
		return nil, err
	}
	return s.whenDone, nil
}

// release lets the cluster go as those go that are no longer configured: when no call can name it.
func (s *Server) release(t *logos.Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[t.Cluster]
	if h.by--; h.by > 0 {
		return
	}
	delete(s.held, t.Cluster)
	if !s.configured(t) {
		s.extra[t.Cluster] = &lingering{h.target, time.Now()}
	}
}

// configured says whether the configuration has a target of that name. s.mu is held.
func (s *Server) configured(t *logos.Target) bool {
	return slices.ContainsFunc(s.config.Targets(), func(c *logos.Target) bool { return c.Cluster == t.Cluster })
}

// heldTargets returns those that are held. s.mu is held.
func (s *Server) heldTargets() []*logos.Target {
	var list []*logos.Target
	for _, name := range slices.Sorted(maps.Keys(s.held)) {
		list = append(list, s.held[name].target)
	}
	return list
}

func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
