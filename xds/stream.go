package xds

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// callbacks tell which Envoys are there, what goes to them and what they say to it.
func (s *Server) callbacks() serverv3.Callbacks {
	return serverv3.CallbackFuncs{
		DeltaStreamClosedFunc: func(id int64, _ *corev3.Node) { s.closed(id) },
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			s.heard(id, r)
			return nil
		},
		StreamDeltaResponseFunc: func(id int64, _ *discoveryv3.DeltaDiscoveryRequest, r *discoveryv3.DeltaDiscoveryResponse) {
			s.sent(id, r)
		},
	}
}

// Connected says whether the Envoy process with that epoch is connected.
func (s *Server) Connected(epoch string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.streams {
		if l.epoch == epoch {
			return true
		}
	}
	return false
}

// AnyConnected says whether some Envoy is connected.
func (s *Server) AnyConnected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams) > 0
}

// heard notes what an Envoy says.
func (s *Server) heard(id int64, r *discoveryv3.DeltaDiscoveryRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.streams[id]
	if l == nil {
		if l = s.opened(id, r.GetNode().GetId()); l == nil {
			return
		}
	}
	l.hears(r)
	s.stale = true
	if r.GetErrorDetail() != nil {
		kind := shortType(r.GetTypeUrl())
		s.metrics.nacks.WithLabelValues(kind).Inc()
		s.log.Error("Envoy refused a resource", zap.String("type", kind), zap.String("reason", r.GetErrorDetail().GetMessage()))
	}
	s.signal()
}

// opened begins the ledger of a stream. A process that was connected before goes on with the clusters that
// it had. s.mu is held.
func (s *Server) opened(id int64, epoch string) *ledger {
	if epoch == "" {
		return nil
	}
	s.log.Info("Envoy connected", zap.String("epoch", epoch))
	l := newLedger(epoch)
	if s.current != nil && s.current.epoch == epoch {
		l.usable, l.listening = s.current.usable, s.current.listening
	}
	s.streams[id], s.current = l, l
	s.unsettle()
	if s.pushed != nil {
		if err := s.send(epoch); err != nil {
			s.log.Error("no configuration for Envoy", zap.Error(err))
		}
	}
	return l
}

// sent notes what goes to an Envoy.
func (s *Server) sent(id int64, r *discoveryv3.DeltaDiscoveryResponse) {
	kind := shortType(r.GetTypeUrl())
	s.metrics.resources.WithLabelValues(kind).Add(float64(len(r.GetResources()) + len(r.GetRemovedResources())))
	s.metrics.bytes.WithLabelValues(kind).Add(float64(proto.Size(r)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.streams[id]; l != nil {
		l.sends(r)
	}
}

// closed ends the ledger of a stream. What the last Envoy could use stays what can be used: it goes on with
// that while it is not connected.
func (s *Server) closed(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := s.streams[id]
	if gone == nil {
		return
	}
	delete(s.streams, id)
	for _, l := range s.streams {
		if gone == s.current {
			s.current = l
		}
		if l.epoch == gone.epoch {
			return
		}
	}
	s.cache.ClearSnapshot(gone.epoch)
	delete(s.listeners, gone.epoch)
	s.log.Warn("Envoy disconnected", zap.String("epoch", gone.epoch))
}

// shortType returns the last part of a type's name.
func shortType(url string) string { return url[strings.LastIndex(url, ".")+1:] }
