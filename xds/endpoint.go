package xds

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos"
)

// A place is where a cluster leads: the name under which it asks for addresses, whose they are, and what
// they were last.
type place struct {
	cluster, service string
	host, port       string
	addresses        []netip.Addr
}

// locate makes a cluster ask for its addresses by EDS, so that they change without the cluster, its
// connections and its calls.
//
// Each version of a cluster asks under a name of its own. While Envoy warms a new version, the old one still
// holds its subscription, and over delta ADS a name that is subscribed to is not asked for again: the new
// version would wait for its addresses until the initial fetch times out, after 15 s.
func (b *builder) locate(c *clusterv3.Cluster, t *logos.Target) place {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("cluster %s: %w", c.GetName(), err)
	}
	digest := fnv.New64a()
	digest.Write(encoded)
	p := place{cluster: c.GetName(), service: c.GetName() + "/" + hex.EncodeToString(digest.Sum(nil))}
	p.host, p.port = t.Provider.Address()
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: p.service}
	return p
}

// assignment makes one logical host of all addresses: one that can't be reached is passed over for the next
// (RFC 8305), and no address is chosen by chance that others of the same provider would not have. A place
// that has none has an assignment too, or Envoy would wait for it.
func (b *builder) assignment(p *place) *endpointv3.ClusterLoadAssignment {
	a := &endpointv3.ClusterLoadAssignment{ClusterName: p.service}
	port, err := strconv.ParseUint(p.port, 10, 16)
	if err != nil && b.err == nil {
		b.err = err
	}
	if len(p.addresses) == 0 {
		return a
	}
	e := &endpointv3.Endpoint{Address: socketAddress(p.addresses[0].String(), uint32(port))}
	for _, next := range p.addresses[1:] {
		e.AdditionalAddresses = append(e.AdditionalAddresses, &endpointv3.Endpoint_AdditionalAddress{Address: socketAddress(next.String(), uint32(port))})
	}
	a.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: e}}}}}
	return a
}
