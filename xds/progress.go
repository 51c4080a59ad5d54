package xds

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"google.golang.org/protobuf/proto"
)

// clustersHash tells whether a push changes clusters.
func clustersHash(r *Resources) (uint64, error) {
	h := fnv.New64a()
	for _, c := range r.Clusters {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			return 0, fmt.Errorf("cluster %s: %w", c.GetName(), err)
		}
		h.Write(b)
	}
	return h.Sum64(), nil
}

// Run follows what Envoy makes of the pushes until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	timer := time.NewTimer(idlePoll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
		s.dropUnused()
		next := idlePoll
		if s.follow(ctx) {
			next = pollEvery
		}
		timer.Reset(next)
	}
}

// follow asks Envoy how far it is, and says whether something is pending.
func (s *Server) follow(ctx context.Context) (pending bool) {
	s.mu.Lock()
	want, names, pushes, settled, connected := s.clusters, s.names, s.pushes, s.settled, len(s.streams) > 0
	s.mu.Unlock()
	if settled || want == "" || !connected {
		return false
	}
	accepted, warming, listening, err := s.admin.Progress(ctx)
	if err != nil || accepted != want {
		return true
	}
	active := make(map[string]struct{}, len(names))
	for n := range names {
		active[n] = struct{}{}
	}
	for _, n := range warming {
		delete(active, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushes != pushes {
		return true // a newer push came meanwhile
	}
	s.active.Store(&active)
	if len(warming) > 0 || !listening {
		return true
	}
	s.settled = true
	s.finish()
	return false
}

// dropUnused removes clusters that no call can name any more.
func (s *Server) dropUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped := false
	for name, l := range s.extra {
		if time.Since(l.since) > lingerAtLeast && !s.inUse(name) {
			delete(s.extra, name)
			dropped = true
		}
	}
	if !dropped {
		return
	}
	if err := s.push(); err != nil {
		s.log.Error("could not push the removal of clusters")
	}
}
