package xds

import (
	"cmp"
	"slices"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// lingerAtLeast keeps a removed cluster for calls that were decided but not noted yet.
const lingerAtLeast = 5 * time.Second

// lingering is a target that is no longer configured.
type lingering struct {
	target *logos.Target
	since  time.Time
}

// linger keeps what the next configuration lacks. s.mu is held.
func (s *Server) linger(next *logos.Config) {
	if s.config != nil && slices.Equal(s.config.Targets(), next.Targets()) {
		return
	}
	kept := make(map[string]bool)
	for _, t := range next.Targets() {
		kept[t.Cluster] = true
		delete(s.extra, t.Cluster)
	}
	if s.config == nil {
		return
	}
	for _, t := range s.config.Targets() {
		if !kept[t.Cluster] && s.extra[t.Cluster] == nil {
			s.extra[t.Cluster] = &lingering{t, time.Now()}
		}
	}
}

// targets returns all that Envoy shall have a cluster for: those that are configured, those that are held,
// those that linger. Of one name or credential the first counts, and the later ones may be older. s.mu is
// held.
func (s *Server) targets() []*logos.Target {
	var lingering []*logos.Target
	for _, l := range s.extra {
		lingering = append(lingering, l.target)
	}
	slices.SortFunc(lingering, func(x, y *logos.Target) int { return cmp.Compare(x.Cluster, y.Cluster) })
	return slices.Concat(s.config.Targets(), s.heldTargets(), lingering)
}
