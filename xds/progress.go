package xds

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"
)

// clustersHash tells whether a push changes clusters. Their order does not: Envoy is not told of it, and a
// version of which it is not told is waited for in vain.
func clustersHash(r *Resources) (uint64, error) {
	h := fnv.New64a()
	byName := func(x, y *clusterv3.Cluster) int { return strings.Compare(x.GetName(), y.GetName()) }
	for _, c := range slices.SortedFunc(slices.Values(r.Clusters), byName) {
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
		if s.follow(ctx) || s.lookAgain(ctx) {
			next = pollEvery
		}
		timer.Reset(next)
	}
}

// follow asks Envoy how far it is, and says whether something is pending.
func (s *Server) follow(ctx context.Context) (pending bool) {
	s.mu.Lock()
	want, names, pushes, settled, connected, rejected := s.clusters, s.names, s.pushes, s.settled, len(s.streams) > 0, s.rejected != nil
	s.mu.Unlock()
	if settled || want == "" || !connected {
		return false
	}
	if rejected {
		s.followRejected(ctx, names, pushes)
		return false // it stays so until the next push
	}
	accepted, warming, listening, err := s.admin.Progress(ctx)
	if err != nil || accepted != want {
		return true
	}
	vacant, err := s.admin.Vacant(ctx)
	if err != nil {
		return true
	}
	active := activeClusters(names, warming, vacant)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushes != pushes {
		return true // a newer push came meanwhile
	}
	s.setActive(active, len(vacant) > 0)
	if len(warming) > 0 || !listening {
		return true
	}
	s.settled = true
	s.finish()
	return false
}

// followRejected finds out what Envoy took of a push that it refused in part.
func (s *Server) followRejected(ctx context.Context, names map[string]string, pushes int64) {
	has, err := s.admin.Active(ctx)
	if err != nil {
		return
	}
	vacant, err := s.admin.Vacant(ctx)
	if err != nil {
		return
	}
	wanted := activeClusters(names, nil, vacant)
	active := make(map[string]struct{}, len(has))
	for _, name := range has {
		if _, ok := wanted[name]; ok {
			active[name] = struct{}{}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushes == pushes {
		s.setActive(active, len(vacant) > 0)
	}
}

// activeClusters returns those that neither warm nor lack a host.
func activeClusters(names map[string]string, warming, vacant []string) map[string]struct{} {
	none := make(map[string]bool, len(vacant))
	for _, stat := range vacant {
		none[stat] = true
	}
	active := make(map[string]struct{}, len(names))
	for name, stat := range names {
		if stat == "" || !none[stat] {
			active[name] = struct{}{}
		}
	}
	for _, n := range warming {
		delete(active, n)
	}
	return active
}

// setActive publishes which clusters can be used. s.mu is held.
func (s *Server) setActive(active map[string]struct{}, vacant bool) {
	for i := range s.places {
		if p := &s.places[i]; len(p.addresses) == 0 {
			delete(active, p.cluster) // whatever Envoy had there a moment ago
			vacant = true
		}
	}
	s.vacant = vacant
	s.active.Store(&active)
}

// lookAgain asks whether clusters have a host by now that had none, and says whether one has not that was
// given addresses. Clusters that lose theirs are known to setActive.
func (s *Server) lookAgain(ctx context.Context) (pending bool) {
	s.mu.Lock()
	names, pushes, again := s.names, s.pushes, s.settled && s.vacant
	s.mu.Unlock()
	if !again {
		return false
	}
	vacant, err := s.admin.Vacant(ctx)
	if err != nil {
		return false
	}
	active := activeClusters(names, nil, vacant)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushes != pushes || !s.settled {
		return true
	}
	for i := range s.places {
		p := &s.places[i]
		_, has := active[p.cluster]
		pending = pending || !has && len(p.addresses) > 0
	}
	s.setActive(active, len(vacant) > 0)
	return pending
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
