package xds

import (
	"maps"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// A group is the resources of one type in a snapshot.
type group struct {
	items    map[string]types.ResourceWithTTL
	versions map[string]string
}

func newGroup(n int) group {
	return group{make(map[string]types.ResourceWithTTL, n), make(map[string]string, n)}
}

func add[R types.Resource](g group, x item[R]) {
	g.items[x.name], g.versions[x.name] = types.ResourceWithTTL{Resource: x.resource}, x.version
}

// snapshot returns the assembly as the cache serves it, without a listener. It brings the versions along,
// which the cache would otherwise find out by encoding everything.
func (s *assembly) snapshot(version string) *cachev3.Snapshot {
	clusters, endpoints := newGroup(len(s.clusters)+len(s.parts)), newGroup(len(s.parts))
	routes, secrets := newGroup(len(s.routes)), newGroup(len(s.fixed.secrets)+len(s.secrets))
	for _, x := range s.clusters {
		add(clusters, x)
	}
	for _, p := range s.parts {
		add(clusters, p.cluster)
		add(endpoints, p.endpoints)
	}
	for _, x := range s.routes {
		add(routes, x)
	}
	for _, x := range s.fixed.secrets {
		add(secrets, x)
	}
	for _, x := range s.secrets {
		add(secrets, x.item)
	}
	out := &cachev3.Snapshot{VersionMap: make(map[string]map[string]string)}
	set(out, types.Cluster, resource.ClusterType, clusters, version)
	set(out, types.Endpoint, resource.EndpointType, endpoints, version)
	set(out, types.Route, resource.RouteType, routes, version)
	set(out, types.Secret, resource.SecretType, secrets, version)
	return out
}

// withListener returns a copy for the Envoy process that the listener is of.
func withListener(of *cachev3.Snapshot, listener item[*listenerv3.Listener], version string) *cachev3.Snapshot {
	out := &cachev3.Snapshot{Resources: of.Resources, VersionMap: maps.Clone(of.VersionMap)}
	g := newGroup(1)
	add(g, listener)
	set(out, types.Listener, resource.ListenerType, g, version)
	return out
}

func set(s *cachev3.Snapshot, kind types.ResponseType, url string, g group, version string) {
	s.Resources[kind] = cachev3.Resources{Version: version, Items: g.items}
	s.VersionMap[url] = g.versions
}
