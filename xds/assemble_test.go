package xds

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos"
)

// A changing installation has targets that come, go and change, at addresses that do too.
type changing struct {
	rand      *rand.Rand
	compiler  *logos.Compiler
	addresses map[string][]netip.Addr
}

func newChanging(t *testing.T, seed uint64) (*changing, *logos.Config) {
	t.Helper()
	c := &changing{rand: rand.New(rand.NewPCG(seed, 1)), compiler: logos.NewCompiler(logos.Hasher{}), addresses: make(map[string][]netip.Addr)}
	r := logos.Resources{Projects: []*logos.Project{{ID: 1}}}
	profile := &logos.Profile{ID: 1, ProjectID: 1, Passthrough: true}
	for n := range int64(6) {
		r.Providers = append(r.Providers, c.provider(n+1))
		r.Credentials = append(r.Credentials, c.credential(n+1))
		r.Models = append(r.Models, &logos.Model{ID: logos.ModelID(n + 1), Name: fmt.Sprint("m", n)})
		r.Deployments = append(r.Deployments, &logos.Deployment{ID: logos.DeploymentID(n + 1), Model: logos.ModelID(n + 1), Provider: logos.ProviderID(n%3 + 1)})
		profile.Models = append(profile.Models, logos.ModelID(n+1))
		profile.Grants = append(profile.Grants, logos.Grant{Provider: logos.ProviderID(n + 1), Credential: logos.CredentialID(n + 1)})
	}
	r.Profiles = append(r.Profiles, profile)
	return c, c.apply(t, logos.Changes{Resources: r})
}

func (c *changing) apply(t *testing.T, ch logos.Changes) *logos.Config {
	t.Helper()
	cfg, err := c.compiler.Apply(1, ch)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (c *changing) provider(n int64) *logos.Provider {
	host := fmt.Sprintf("p%d-%d.example", n, c.rand.IntN(2))
	header := []string{"authorization", "authorization", "authorization", "x-own"}[c.rand.IntN(4)]
	return &logos.Provider{ID: logos.ProviderID(n), Name: fmt.Sprint("p", n), BaseURL: &url.URL{Scheme: "https", Host: host}, AuthHeader: header, AuthFormat: "Bearer {}"}
}

func (c *changing) credential(n int64) *logos.Credential {
	return &logos.Credential{ID: logos.CredentialID(n), Provider: logos.ProviderID(n), Secret: logos.Secret([]string{"", "a", "b"}[c.rand.IntN(3)])}
}

// step changes one thing.
func (c *changing) step(t *testing.T) *logos.Config {
	n := int64(1 + c.rand.IntN(6))
	var ch logos.Changes
	switch c.rand.IntN(6) {
	case 0:
		ch.Providers = append(ch.Providers, c.provider(n))
	case 1:
		ch.Credentials = append(ch.Credentials, c.credential(n))
	case 2:
		ch.Deployments = append(ch.Deployments, &logos.Deployment{ID: logos.DeploymentID(n), Model: logos.ModelID(n), Provider: logos.ProviderID(1 + c.rand.IntN(6))})
	case 3:
		ch.Gone.Deployments = append(ch.Gone.Deployments, logos.DeploymentID(n))
	case 4:
		ch.APIKeys = append(ch.APIKeys, &logos.APIKey{ID: logos.APIKeyID(n), ProjectID: 1, Hash: logos.KeyHash{byte(c.rand.IntN(256))}})
	case 5:
		host := fmt.Sprintf("p%d-%d.example", n, c.rand.IntN(2))
		c.addresses[host] = nil
		for range c.rand.IntN(3) {
			c.addresses[host] = append(c.addresses[host], netip.AddrFrom4([4]byte{192, 0, 2, byte(c.rand.IntN(4))}))
		}
	}
	return c.apply(t, ch)
}

// encoded returns the resources by type and name, as they go to Envoy.
func encoded(t *testing.T, r *Resources) map[string]string {
	t.Helper()
	out := make(map[string]string)
	put := func(m proto.Message, name string) {
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out[string(m.ProtoReflect().Descriptor().Name())+" "+name] = string(text)
	}
	for _, x := range r.Clusters {
		put(x, x.GetName())
	}
	for _, x := range r.Endpoints {
		put(x, x.GetClusterName())
	}
	for _, x := range r.Secrets {
		put(x, x.GetName())
	}
	return out
}

func TestWhatIsKeptIsWhatWouldBeMade(t *testing.T) {
	t.Parallel()
	kept, made := 0, 0
	for seed := range uint64(8) {
		c, cfg := newChanging(t, seed)
		o := Options{Listen: "127.0.0.1:1", Addresses: func(host, _ string) []netip.Addr { return c.addresses[host] }}
		a := assembler{o: o}
		var was *assembly
		var before map[string]string
		for n := range 40 {
			set, err := a.assemble(cfg.Targets())
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := Build(cfg, nil, o, "epoch")
			if err != nil {
				t.Fatal(err)
			}
			got, want := encoded(t, set.resources()), encoded(t, fresh)
			if !equal(got, want) {
				t.Fatalf("seed %d, change %d: what was kept is not what Build makes", seed, n)
			}
			checkSnapshot(t, &a, set)
			differs, news := set.since(was)
			if differs != !equal(before, got) || news && !differs {
				t.Fatalf("seed %d, change %d: differs %t, news %t; the resources differ: %t", seed, n, differs, news, !equal(before, got))
			}
			for _, p := range set.parts {
				if was != nil && was.byName[p.cluster.name] == p {
					kept++
				} else {
					made++
				}
			}
			was, before, cfg = set, got, c.step(t)
		}
	}
	if kept < 2*made {
		t.Errorf("%d parts were kept and %d made", kept, made)
	}
}

func equal(x, y map[string]string) bool {
	if len(x) != len(y) {
		return false
	}
	for k, v := range x {
		if w, ok := y[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// checkSnapshot makes sure that a snapshot refers to nothing that is not in it, and that the versions that it
// brings along are those that the cache would find.
func checkSnapshot(t *testing.T, a *assembler, s *assembly) {
	t.Helper()
	listener, err := a.listenerFor("epoch")
	if err != nil {
		t.Fatal(err)
	}
	snapshot := withListener(s.snapshot("1"), listener, "1")
	if err := snapshot.Consistent(); err != nil {
		t.Fatal(err)
	}
	brought := snapshot.VersionMap
	snapshot.VersionMap = nil
	if err := snapshot.ConstructVersionMap(); err != nil {
		t.Fatal(err)
	}
	for url, versions := range brought {
		if !equal(versions, snapshot.VersionMap[url]) {
			t.Fatalf("the versions of %s are not those of their content", shortType(url))
		}
	}
}

func TestAnErrorLeavesWhatWasKept(t *testing.T) {
	t.Parallel()
	c, cfg := newChanging(t, 1)
	a := assembler{o: Options{Addresses: func(string, string) []netip.Addr { return nil }}}
	was, err := a.assemble(cfg.Targets())
	if err != nil {
		t.Fatal(err)
	}
	broken := slices.Clone(cfg.Targets())
	broken[0] = &logos.Target{Cluster: "broken", Provider: &logos.Provider{BaseURL: &url.URL{Scheme: "https", Host: "x:65536"}}}
	if _, err := a.assemble(broken); err == nil {
		t.Fatal("a port that is none is assembled")
	}
	set, err := a.assemble(c.apply(t, logos.Changes{}).Targets())
	if err != nil {
		t.Fatal(err)
	}
	if differs, _ := set.since(was); differs {
		t.Error("after an error, what was there is made anew")
	}
}
