package xds

import (
	"net/netip"
	"net/url"
	"strconv"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/genproto/googleapis/rpc/status"

	"github.com/ls1intum/edutelligence/logos"
)

// A dialogue plays an Envoy that answers what it is sent.
type dialogue struct {
	*ledger
	t     *testing.T
	a     assembler
	set   *assembly
	nonce int
	known map[string]map[string]string // versions sent, by type and name
}

func newDialogue(t *testing.T) *dialogue {
	t.Helper()
	d := &dialogue{ledger: newLedger("epoch"), t: t, known: make(map[string]map[string]string)}
	d.a = assembler{o: Options{Addresses: func(host, _ string) []netip.Addr {
		if host == "nowhere" {
			return nil
		}
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	}}}
	d.wants(d.target("x", "sk"))
	return d
}

func (d *dialogue) target(host string, secret logos.Secret) *logos.Target {
	base, err := url.Parse("https://" + host)
	if err != nil {
		d.t.Fatal(err)
	}
	return &logos.Target{Cluster: "c", Provider: &logos.Provider{ID: 1, BaseURL: base, AuthHeader: "authorization"}, Credential: &logos.Credential{ID: 1, Secret: secret}}
}

func (d *dialogue) wants(targets ...*logos.Target) {
	d.t.Helper()
	var err error
	if d.set, err = d.a.assemble(targets); err != nil {
		d.t.Fatal(err)
	}
}

// send sends all that is wanted of a type and takes away what is no longer; it returns the nonce.
func (d *dialogue) send(kind string, gone ...string) string {
	d.nonce++
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: kind, Nonce: strconv.Itoa(d.nonce), RemovedResources: gone}
	wanted := d.set.snapshot("1").VersionMap[kind]
	for name, version := range wanted {
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Version: version})
	}
	for name := range d.known[kind] {
		if wanted[name] == "" {
			r.RemovedResources = append(r.RemovedResources, name)
		}
	}
	d.known[kind] = wanted
	d.sends(r)
	return r.GetNonce()
}

func (d *dialogue) acknowledge(kinds ...string) {
	for _, kind := range kinds {
		d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind})
		d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind, ResponseNonce: d.send(kind)})
	}
}

func (d *dialogue) refuse(kind string) {
	d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind, ResponseNonce: d.send(kind), ErrorDetail: &status.Status{Message: "no"}})
}

// expect says what shall hold of the one cluster.
func (d *dialogue) expect(when string, usable, said, refused bool) {
	d.t.Helper()
	list, gotSaid, gotRefused := d.examine(d.set)
	d.usable = list
	if _, got := list["c"]; got != usable || gotSaid != said || gotRefused != refused {
		d.t.Errorf("%s: it is usable %t, all is said %t, something is refused %t; want %t, %t, %t", when, got, gotSaid, gotRefused, usable, said, refused)
	}
}

func TestAClusterIsUsedOnceAllOfItIsAcknowledged(t *testing.T) {
	d := newDialogue(t)
	d.expect("at first", false, false, false)
	d.acknowledge(resource.ClusterType, resource.RouteType)
	d.expect("without addresses", false, false, false)
	d.acknowledge(resource.EndpointType)
	d.expect("without its secret", false, false, false)
	d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType})
	nonce := d.send(resource.SecretType)
	d.expect("while its secret is under way", false, false, false)
	d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResponseNonce: "another"})
	d.expect("after another acknowledgement", false, false, false)
	d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResponseNonce: nonce})
	d.expect("with all", true, true, false)
}

func whole(t *testing.T) *dialogue {
	t.Helper()
	d := newDialogue(t)
	d.acknowledge(resource.ClusterType, resource.RouteType, resource.EndpointType, resource.SecretType)
	d.expect("with all", true, true, false)
	return d
}

func TestAClusterIsUsedWhileItChanges(t *testing.T) {
	d := whole(t)
	d.wants(d.target("x", "another"))
	d.expect("with a new secret to come", true, false, false)
	d.acknowledge(resource.SecretType)
	d.expect("with its new secret", true, true, false)
	d.wants(d.target("y", "another"))
	d.expect("with a new version to come", true, false, false)
	d.acknowledge(resource.ClusterType)
	d.expect("with a new version that waits for its addresses", true, false, false)
	d.acknowledge(resource.EndpointType)
	d.expect("with its new version", true, true, false)
}

func TestAClusterWithoutAddressesIsNotUsed(t *testing.T) {
	d := whole(t)
	d.wants(d.target("nowhere", "sk"))
	d.expect("from the moment at which it has none", false, false, false)
	d.acknowledge(resource.ClusterType, resource.EndpointType)
	d.expect("when Envoy knows", false, true, false)
	d.wants(d.target("x", "sk"))
	d.acknowledge(resource.ClusterType)
	d.expect("while they are under way again", false, false, false)
	d.acknowledge(resource.EndpointType)
	d.expect("when it has some again", true, true, false)
}

func TestWhatIsTakenAwayMustComeAgain(t *testing.T) {
	for name, gone := range map[string]func(*dialogue){
		"the cluster":   func(d *dialogue) { d.send(resource.ClusterType, "c") },
		"the addresses": func(d *dialogue) { d.send(resource.EndpointType, d.set.parts[0].endpoints.name) },
		"the secret": func(d *dialogue) {
			d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.SecretType, ResourceNamesUnsubscribe: []string{d.set.parts[0].secret.name}})
		},
	} {
		d := whole(t)
		gone(d)
		d.usable = nil // as when nothing wants it for a while
		d.expect("without "+name, false, false, false)
		d.acknowledge(resource.ClusterType, resource.EndpointType, resource.SecretType)
		d.expect("with "+name+" again", true, true, false)
	}
}

func TestAnEnvoyThatComesBackSaysWhatItHas(t *testing.T) {
	d := whole(t)
	versions := d.set.snapshot("1").VersionMap
	d.ledger = newLedger("epoch")
	for kind := range versions {
		d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: kind, InitialResourceVersions: versions[kind]})
	}
	d.expect("on a new stream", true, true, false)
}

func TestWhatIsRefusedIsNotWaitedFor(t *testing.T) {
	d := newDialogue(t)
	d.acknowledge(resource.RouteType)
	d.hears(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.ClusterType})
	d.refuse(resource.ClusterType)
	d.expect("after a refusal", false, true, true)
	if !d.doubtful || d.reason != "a cluster was refused by Envoy: no" {
		t.Errorf("after a refusal, it is doubtful %t, because %q", d.doubtful, d.reason)
	}
	d.took(resource.ClusterType, d.set.snapshot("1").VersionMap[resource.ClusterType])
	d.expect("when Envoy has it after all", false, false, false)
	d.acknowledge(resource.EndpointType, resource.SecretType)
	d.expect("with all", true, true, false)
	d.wants(d.target("y", "sk"))
	d.refuse(resource.ClusterType)
	d.took(resource.ClusterType, map[string]string{"c": "an earlier version"})
	d.expect("with a new version that is refused", true, true, true)
}
