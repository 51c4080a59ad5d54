package xds_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/ls1intum/edutelligence/logos/xds"
)

// services pairs each cluster of a target with its addresses.
func services(t *testing.T, r *xds.Resources) map[string][]string {
	t.Helper()
	addresses := make(map[string][]string)
	for _, a := range r.Endpoints {
		if _, twice := addresses[a.GetClusterName()]; twice {
			t.Errorf("%s is there twice", a.GetClusterName())
		}
		addresses[a.GetClusterName()] = addressesOf(a)
	}
	out := make(map[string][]string)
	for _, c := range r.Clusters {
		if c.GetType() != clusterv3.Cluster_EDS {
			continue
		}
		list, ok := addresses[c.GetEdsClusterConfig().GetServiceName()]
		if !ok || c.GetLoadAssignment() != nil {
			t.Errorf("%s has no addresses, or some of its own", c.GetName())
		}
		out[c.GetName()] = list
	}
	if len(out) != len(r.Endpoints) {
		t.Errorf("%d clusters have %d assignments", len(out), len(r.Endpoints))
	}
	return out
}

func addressesOf(a *endpointv3.ClusterLoadAssignment) (list []string) {
	for _, l := range a.GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			list = append(list, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
			for _, more := range e.GetEndpoint().GetAdditionalAddresses() {
				list = append(list, more.GetAddress().GetSocketAddress().GetAddress())
			}
		}
	}
	return list
}

func TestEnvoyIsGivenAddressesAndNoNames(t *testing.T) {
	for _, s := range setups(t) {
		r := build(t, s)
		found := services(t, r)
		for target, c := range targets(t, s) {
			host, port := target.Provider.Address()
			var want []string
			for _, a := range addresses(host, port) {
				want = append(want, a.String())
			}
			if !slices.Equal(found[c.GetName()], want) {
				t.Errorf("%s: %s leads to %v, want %v", s.name, c.GetName(), found[c.GetName()], want)
			}
		}
		for _, a := range r.Endpoints {
			for _, address := range addressesOf(a) {
				if _, err := netip.ParseAddr(address); err != nil {
					t.Errorf("%s: Envoy is given the name %s", s.name, address)
				}
			}
		}
	}
}

func TestNewAddressesChangeTheEndpointsAlone(t *testing.T) {
	s := setups(t)[0]
	before := build(t, s)
	s.options = func(o *xds.Options) {
		o.Addresses = func(string, string) []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.99")} }
	}
	after := build(t, s)
	if bytes.Equal(wire(t, messages(before.Endpoints)), wire(t, messages(after.Endpoints))) {
		t.Error("the endpoints stay as they were")
	}
	before.Endpoints, after.Endpoints = nil, nil
	if !bytes.Equal(wire(t, all(before)), wire(t, all(after))) {
		t.Error("more than the endpoints changes")
	}
}

// While Envoy warms a new version of a cluster, the old one still has its subscription.
func TestEachVersionOfAClusterAsksForItsAddressesByAnotherName(t *testing.T) {
	names := func(s setup) map[string]string {
		out := make(map[string]string)
		for _, c := range build(t, s).Clusters {
			out[c.GetName()] = c.GetEdsClusterConfig().GetServiceName()
		}
		return out
	}
	before := names(setups(t)[1])
	changed := setups(t)[1]
	changed.resources.Providers[1].Name = "another name, which the cluster's metadata holds"
	different := 0
	for name, service := range names(changed) {
		if service != "" && service != before[name] {
			different++
		}
	}
	if different != 2 {
		t.Errorf("%d clusters ask by another name, want the two of the provider that changed", different)
	}
	seen := make(map[string]bool)
	for _, service := range before {
		if service != "" && seen[service] {
			t.Errorf("two clusters ask as %s", service)
		}
		seen[service] = true
	}
}
