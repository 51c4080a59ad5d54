package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// Readdress pushes where providers are now, and nothing else: clusters stay, with their connections and
// calls. A cluster that loses its last address is not used from this moment on.
func (s *Server) Readdress() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := make(map[string]types.Resource)
	for i := range s.places {
		p := &s.places[i]
		if now := s.opt.Addresses(p.host, p.port); !slices.Equal(now, p.addresses) {
			p.addresses = now
			changed[p.service] = p.assignment()
		}
	}
	if len(changed) == 0 {
		return nil
	}
	s.pushes++
	for _, epoch := range s.epochs() {
		if err := s.readdress(epoch, changed, strconv.FormatInt(s.config.Revision, 10)+"."+strconv.FormatInt(s.pushes, 10)); err != nil {
			return fmt.Errorf("push addresses: %w", err)
		}
	}
	s.closeVacant()
	s.signal()
	return nil
}

// readdress sets an Envoy's snapshot anew with other addresses. What has not changed is not encoded again.
func (s *Server) readdress(epoch string, changed map[string]types.Resource, version string) error {
	present, err := s.cache.GetSnapshot(epoch)
	if err != nil {
		return err
	}
	old, ok := present.(*cachev3.Snapshot)
	if !ok {
		return errors.New("the snapshot is none of ours")
	}
	items, versions := maps.Clone(old.Resources[types.Endpoint].Items), maps.Clone(old.VersionMap[resource.EndpointType])
	for name, assignment := range changed {
		encoded, err := cachev3.MarshalResource(assignment)
		if err != nil {
			return err
		}
		items[name], versions[name] = types.ResourceWithTTL{Resource: assignment}, cachev3.HashResource(encoded)
	}
	next := &cachev3.Snapshot{Resources: old.Resources, VersionMap: maps.Clone(old.VersionMap)}
	next.Resources[types.Endpoint] = cachev3.Resources{Version: version, Items: items}
	next.VersionMap[resource.EndpointType] = versions
	return s.cache.SetSnapshot(context.Background(), epoch, next)
}

// closeVacant takes clusters that have no address out of use. s.mu is held.
func (s *Server) closeVacant() {
	if slices.ContainsFunc(s.places, func(p place) bool { return len(p.addresses) == 0 }) {
		s.setActive(maps.Clone(*s.active.Load()), true)
	}
}
