package xds

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"go.uber.org/zap"
)

const (
	pollEvery = 10 * time.Millisecond // while the listener is not up
	idlePoll  = time.Second           // for clusters that may go
)

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
		begin := time.Now()
		s.dropUnused()
		next := idlePoll
		if s.follow(ctx) {
			next = pollEvery
		}
		// At its start Envoy asks for each secret by itself: what a thousand messages say is taken in together.
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Since(begin)):
		}
		timer.Reset(next)
	}
}

// follow takes in what Envoy has said, and says whether to look again soon.
func (s *Server) follow(ctx context.Context) (again bool) {
	s.mu.Lock()
	if s.stale {
		s.examine()
	}
	l, said, connected := s.current, s.said, len(s.streams) > 0
	s.mu.Unlock()
	switch {
	case !connected:
		return false
	case l.doubtful:
		return !s.resolveDoubt(ctx, l)
	case said && !l.listening:
		return !s.hearListener(ctx, l)
	}
	return false
}

// resolveDoubt asks Envoy what it took of a response that it refused in part.
func (s *Server) resolveDoubt(ctx context.Context, l *ledger) bool {
	clusters, err := s.admin.Clusters(ctx)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.took(resource.ClusterType, clusters)
	s.examine()
	return true
}

// hearListener asks Envoy whether it listens, which it does some time after it has acknowledged the listener.
func (s *Server) hearListener(ctx context.Context, l *ledger) bool {
	listening, err := s.admin.Listening(ctx)
	if err != nil || !listening {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.listening = true
	s.examine()
	return true
}

// examine works out from the ledger what Envoy can use, and whether it has said all. s.mu is held.
func (s *Server) examine() {
	l := s.current
	s.stale = false
	if l == nil || s.pushed == nil {
		return
	}
	usable, said, refused := l.examine(s.pushed)
	listener, unwanted := settles(l, resource.ListenerType, s.listeners[l.epoch])
	s.said, refused = said && (listener || unwanted), refused || unwanted
	s.rejected = nil
	if refused {
		s.rejected = errors.New(l.reason)
	}
	l.usable = usable
	if !maps.Equal(usable, *s.active.Load()) {
		s.active.Store(&usable)
	}
	if (refused && !l.doubtful || s.said && l.listening) && !closed(s.whenDone) {
		close(s.whenDone)
	}
}

// examine returns the clusters that Envoy can use, whether it has acknowledged or refused everything, and
// whether it has refused anything.
func (l *ledger) examine(s *assembly) (usable map[string]struct{}, said, refused bool) {
	usable, said = make(map[string]struct{}, len(s.parts)), true
	done := make(map[*part]struct{}, len(s.parts))
	note := func(has, not bool) {
		said, refused = said && (has || not), refused || not
	}
	for _, x := range s.clusters {
		note(settles(l, resource.ClusterType, x))
	}
	for _, x := range s.routes {
		note(settles(l, resource.RouteType, x))
	}
	for _, p := range s.parts {
		warmed, has, not := true, true, false
		if _, known := l.done[p]; !known {
			warmed, has, not = l.part(p)
			note(has, not)
		}
		if has {
			done[p] = struct{}{}
		}
		// While Envoy takes a new version, or refuses it, it goes on with the one before.
		_, was := l.usable[p.cluster.name]
		if (warmed || was) && len(p.place.addresses) > 0 {
			usable[p.cluster.name] = struct{}{}
		}
	}
	l.done = done
	return usable, said, refused
}

// part says whether a cluster has warmed, whether Envoy has all of its resources as they are now, and whether
// it has refused one of them.
func (l *ledger) part(p *part) (warmed, has, refused bool) {
	has, refused = settles(l, resource.ClusterType, p.cluster)
	if !has {
		return false, false, refused // what it does not have asks for nothing
	}
	addresses, not := settles(l, resource.EndpointType, p.endpoints)
	if p.secret == nil {
		return addresses, addresses, not
	}
	secret, notEither := settles(l, resource.SecretType, p.secret.item)
	warmed = addresses && l.has[resource.SecretType][p.secret.name] != ""
	return warmed, addresses && secret, not || notEither
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
	if _, err := s.push(); err != nil {
		s.log.Error("could not push the removal of clusters", zap.Error(err))
	}
}
