package xds

import (
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"

	"github.com/ls1intum/edutelligence/logos"
)

// An assembler makes Envoy's resources. It keeps what it made, so that a configuration in which little has
// changed costs little: what stays is neither made nor encoded again. What it returns depends on its
// arguments alone, whatever it made before, and is never changed.
type assembler struct {
	o        Options
	fixed    *fixed   // nil: not made yet
	scrubbed []string // in the clusters of last
	last     *assembly
}

// An item is a resource with the digest of its content, by which its versions are told apart.
type item[R types.Resource] struct {
	name, version string
	resource      R
}

func versioned[R types.Resource](b *builder, r R) item[R] {
	encoded, err := cachev3.MarshalResource(r)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("encode %s: %w", cachev3.GetResourceName(r), err)
	}
	return item[R]{cachev3.GetResourceName(r), cachev3.HashResource(encoded), r}
}

// fixed is the resources that are the same whatever the targets are.
type fixed struct {
	clusters []item[*clusterv3.Cluster]
	routes   []item[*routev3.RouteConfiguration]
	secrets  []item[*tlsv3.Secret]
}

func (b *builder) fixed() *fixed {
	f := &fixed{
		clusters: []item[*clusterv3.Cluster]{versioned(b, b.unixCluster(extProcCluster, b.o.ExtProcSocket)), versioned(b, b.betweenAttempts())},
		routes:   []item[*routev3.RouteConfiguration]{versioned(b, b.route())},
	}
	if b.o.AdminRoute != "" {
		f.clusters = append(f.clusters, versioned(b, b.adminCluster()))
	}
	if b.o.CertFile != "" {
		f.secrets = append(f.secrets, versioned(b, b.listenerSecret()))
	}
	return f
}

// An assembly is the resources for some targets, but for the listener, of which each Envoy process has its own.
type assembly struct {
	*fixed
	parts   []*part
	byName  map[string]*part // by cluster
	secrets []*stored
	byID    map[logos.CredentialID]*stored
}

// A part is what one target became.
type part struct {
	target    *logos.Target
	place     place
	cluster   item[*clusterv3.Cluster]
	endpoints item[*endpointv3.ClusterLoadAssignment]
	secret    *stored // nil: none
}

// A stored is the secret of a credential.
type stored struct {
	credential *logos.Credential
	provider   *logos.Provider
	item[*tlsv3.Secret]
}

// assemble makes the resources for targets. Of several with one name, or of one credential, the first counts.
func (a *assembler) assemble(targets []*logos.Target) (*assembly, error) {
	b := &builder{o: a.o, scrubbed: credentialHeaders(targets)}
	if a.fixed == nil {
		a.fixed = b.fixed()
	}
	known := a.last
	if known == nil || !slices.Equal(a.scrubbed, b.scrubbed) {
		known = &assembly{} // every cluster is another
	}
	s := &assembly{
		fixed: a.fixed, parts: make([]*part, 0, len(targets)),
		byName: make(map[string]*part, len(targets)), byID: make(map[logos.CredentialID]*stored),
	}
	for _, t := range targets {
		if s.byName[t.Cluster] == nil {
			p := b.part(known.byName[t.Cluster], t, s.secretOf(b, known, t))
			s.byName[t.Cluster] = p
			s.parts = append(s.parts, p)
		}
	}
	if b.err != nil {
		a.fixed = nil
		return nil, fmt.Errorf("build Envoy's resources: %w", b.err)
	}
	a.last, a.scrubbed = s, b.scrubbed
	return s, nil
}

// secretOf returns the secret that a target's cluster injects, or nil.
func (s *assembly) secretOf(b *builder, known *assembly, t *logos.Target) *stored {
	if !injects(t) {
		return nil
	}
	x := s.byID[t.Credential.ID]
	if x != nil {
		return x
	}
	if x = known.byID[t.Credential.ID]; x == nil || x.credential != t.Credential || x.provider != t.Provider {
		x = &stored{t.Credential, t.Provider, versioned(b, secret(t))}
	}
	s.byID[t.Credential.ID] = x
	s.secrets = append(s.secrets, x)
	return x
}

// part returns what a target becomes: what it was, where nothing of it has changed.
func (b *builder) part(was *part, t *logos.Target, secret *stored) *part {
	p := part{target: t, secret: secret}
	if was != nil && was.target == t {
		p.place, p.cluster, p.endpoints = was.place, was.cluster, was.endpoints
	} else {
		c := b.cluster(t)
		p.place = b.locate(c, t)
		p.cluster = versioned(b, c)
	}
	addresses := b.o.Addresses(p.place.host, p.place.port)
	if p.endpoints.resource == nil || !slices.Equal(addresses, p.place.addresses) {
		p.place.addresses = addresses
		p.endpoints = versioned(b, b.assignment(&p.place))
	} else if was.secret == secret {
		return was
	}
	return &p
}

// listenerFor makes the listener of one Envoy process.
func (a *assembler) listenerFor(epoch string) (item[*listenerv3.Listener], error) {
	b := &builder{o: a.o}
	l, err := b.listener(epoch)
	if err != nil {
		return item[*listenerv3.Listener]{}, err
	}
	return versioned(b, l), b.err
}

// since says whether anything differs from an earlier assembly, and whether something is new that is worth
// waiting for: other addresses, and what goes, are not. Nothing was there before nil.
func (s *assembly) since(was *assembly) (differs, news bool) {
	if was == nil {
		return true, true
	}
	differs = len(was.parts) != len(s.parts) || len(was.secrets) != len(s.secrets)
	for _, p := range s.parts {
		switch before := was.byName[p.cluster.name]; {
		case before == p:
		case before == nil || before.cluster.version != p.cluster.version:
			return true, true
		default:
			differs = differs || before.endpoints.version != p.endpoints.version
		}
	}
	for id, x := range s.byID {
		if before := was.byID[id]; before == nil || before.version != x.version {
			return true, true
		}
	}
	return differs, false
}

// resources returns the assembly as plain resources.
func (s *assembly) resources() *Resources {
	r := &Resources{}
	for _, x := range s.clusters {
		r.Clusters = append(r.Clusters, x.resource)
	}
	for _, p := range s.parts {
		r.Clusters, r.Endpoints = append(r.Clusters, p.cluster.resource), append(r.Endpoints, p.endpoints.resource)
	}
	for _, x := range s.routes {
		r.Routes = append(r.Routes, x.resource)
	}
	for _, x := range s.secrets {
		r.Secrets = append(r.Secrets, x.resource)
	}
	for _, x := range s.fixed.secrets {
		r.Secrets = append(r.Secrets, x.resource)
	}
	return r
}
