package xds_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/xds"
)

func all(r *xds.Resources) []proto.Message {
	return slices.Concat(messages(r.Clusters), messages(r.Endpoints), messages(r.Secrets), messages(r.Routes), messages(r.Listeners))
}

func wire(t *testing.T, list []proto.Message) []byte {
	t.Helper()
	var out []byte
	for _, m := range list {
		var err error
		if out, err = (proto.MarshalOptions{Deterministic: true}).MarshalAppend(out, m); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestEnvoysOwnRulesHold(t *testing.T) {
	for _, s := range setups(t) {
		checked := 0
		for _, m := range all(build(t, s)) {
			err := protorange.Range(m.ProtoReflect(), func(p protopath.Values) error {
				message, ok := p.Index(-1).Value.Interface().(protoreflect.Message)
				if !ok {
					return nil
				}
				if v, ok := message.Interface().(interface{ ValidateAll() error }); ok {
					checked++
					if err := v.ValidateAll(); err != nil {
						return fmt.Errorf("%v: %w", p.Path, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		if checked < 100 {
			t.Errorf("%s: only %d messages have rules", s.name, checked)
		}
	}
}

func TestUsesNoNameTwice(t *testing.T) {
	for _, s := range setups(t) {
		seen := make(map[string]bool)
		stats := make(map[string]bool)
		for _, m := range all(build(t, s)) {
			name := string(m.ProtoReflect().Descriptor().Name()) + " " + cachev3.GetResourceName(m)
			if seen[name] {
				t.Errorf("%s: %s is there twice", s.name, name)
			}
			seen[name] = true
			if c, ok := m.(*clusterv3.Cluster); ok && c.GetAltStatName() != "" {
				if stats[c.GetAltStatName()] {
					t.Errorf("%s: two clusters count as %s", s.name, c.GetAltStatName())
				}
				stats[c.GetAltStatName()] = true
			}
		}
	}
}

func TestSecretsAreInSecretResourcesAlone(t *testing.T) {
	for _, s := range setups(t) {
		r := build(t, s)
		secret := slices.ContainsFunc(s.resources.Credentials, func(c *logos.Credential) bool { return c.Secret != "" })
		if got := bytes.Contains(wire(t, messages(r.Secrets)), []byte(canary)); got != secret {
			t.Errorf("%s: the secrets hold a credential: %t, want %t", s.name, got, secret)
		}
		r.Secrets = nil
		if bytes.Contains(wire(t, all(r)), []byte(canary)) {
			t.Errorf("%s: a credential is outside the secrets", s.name)
		}
	}
}

func TestANewSecretChangesTheSecretAlone(t *testing.T) {
	for i, s := range setups(t) {
		changed := setups(t)[i]
		for _, c := range changed.resources.Credentials {
			if c.Secret != "" {
				c.Secret += "-2"
			}
		}
		before, after := build(t, s), build(t, changed)
		if before.Secrets != nil && bytes.Equal(wire(t, messages(before.Secrets)), wire(t, messages(after.Secrets))) {
			t.Errorf("%s: the secrets stay as they were", s.name)
		}
		before.Secrets, after.Secrets = nil, nil
		if !bytes.Equal(wire(t, all(before)), wire(t, all(after))) {
			t.Errorf("%s: more than the secrets changes", s.name)
		}
	}
}

func TestKeepsTargetsThatAreNoLongerConfigured(t *testing.T) {
	s := setups(t)[0]
	old := config(t, setups(t)[2].resources).Targets()[0]
	configured := config(t, s.resources).Targets()[0]
	names := func(extra ...*logos.Target) (out []string) {
		for _, c := range build(t, s, extra...).Clusters {
			out = append(out, c.GetName())
		}
		return out
	}
	if diff := cmp.Diff(append(names(), old.Cluster), names(old, configured, old)); diff != "" {
		t.Errorf("clusters differ (-want +got):\n%s", diff)
	}
}

func TestTheSameConfigurationGivesTheSameBytes(t *testing.T) {
	for i, s := range setups(t) {
		want := wire(t, all(build(t, s)))
		turned := setups(t)[i]
		slices.Reverse(turned.resources.Deployments)
		slices.Reverse(turned.resources.Providers)
		slices.Reverse(turned.resources.Credentials)
		for range 5 {
			if !bytes.Equal(wire(t, all(build(t, turned))), want) {
				t.Fatalf("%s: the bytes change from one time to another", s.name)
			}
		}
	}
}

func TestOnlyClustersAndSecretsDependOnTheConfiguration(t *testing.T) {
	list := setups(t)
	want := build(t, list[0])
	for _, s := range list[1:3] {
		got := build(t, s)
		if !bytes.Equal(wire(t, messages(got.Routes)), wire(t, messages(want.Routes))) || !bytes.Equal(wire(t, messages(got.Listeners)), wire(t, messages(want.Listeners))) {
			t.Errorf("%s has another route or listener than %s", s.name, list[0].name)
		}
	}
}

func TestOnlyTheListenerDependsOnTheProcess(t *testing.T) {
	cfg := config(t, setups(t)[0].resources)
	of := func(epoch string) (clusters, listeners []byte) {
		r, err := xds.Build(cfg, nil, options(), epoch)
		if err != nil {
			t.Fatal(err)
		}
		listeners = wire(t, messages(r.Listeners))
		r.Listeners = nil
		return wire(t, all(r)), listeners
	}
	oneRest, one := of("epoch-1")
	twoRest, two := of("epoch-2")
	if !bytes.Equal(oneRest, twoRest) {
		t.Error("two processes have other clusters, routes or secrets")
	}
	if !bytes.Equal(bytes.ReplaceAll(one, []byte("epoch-1"), []byte("epoch-2")), two) || bytes.Count(one, []byte(xds.AccessLogName("epoch-1"))) != 2 || bytes.Count(one, []byte(xds.LiveLogName("epoch-1"))) != 1 {
		t.Error("the listeners of two processes differ in more than the epoch, or don't log calls and attempts to its file")
	}
}

func TestTheRouteAllowsAnAttemptForEveryTarget(t *testing.T) {
	var routes []*routev3.Route
	for _, host := range build(t, setups(t)[3]).Routes[0].GetVirtualHosts() {
		routes = append(routes, host.GetRoutes()...)
	}
	if last := routes[len(routes)-1]; last.GetMatch().GetPrefix() != "/" || len(routes) != 4 || routes[0].GetRoute().GetRetryPolicy() != nil {
		t.Fatalf("of the routes %v, the last does not take every path or the first is tried again", routes)
	}
	for _, r := range routes[1:] {
		if got := r.GetRoute().GetRetryPolicy().GetNumRetries().GetValue(); got+1 != policy.MaxTargets {
			t.Errorf("the route %s allows %d retries of a call with up to %d targets", r.GetName(), got, policy.MaxTargets)
		}
	}
}

// Calls of a decision without a plan, by the program of before, must find the routes that they know.
func TestOnlyCallsWithAPlanFollowIt(t *testing.T) {
	for _, r := range build(t, setups(t)[3]).Routes[0].GetVirtualHosts()[0].GetRoutes()[1:] {
		planned, action := len(r.GetMatch().GetDynamicMetadata()) > 0, r.GetRoute()
		if planned != (r.GetName() == "planned") || planned != (action.GetWeightedClusters() != nil) || planned == (action.GetInlineClusterSpecifierPlugin() != nil) ||
			planned == strings.Contains(action.GetRetryPolicy().GetRetryOn(), "5xx") || !action.GetRetryPolicy().GetRefreshClusterOnRetry() {
			t.Errorf("the route %s is %v", r.GetName(), r)
		}
	}
}

func TestRefusesAddressesThatAreNone(t *testing.T) {
	for name, change := range map[string]func(*setup, *xds.Options){
		"a listener without port":        func(_ *setup, o *xds.Options) { o.Listen = "127.0.0.1" },
		"a listener at an unknown port":  func(_ *setup, o *xds.Options) { o.Listen = "127.0.0.1:none" },
		"an admin listener without port": func(_ *setup, o *xds.Options) { o.AdminRoute = "127.0.0.1" },
		"a provider at a port that is none": func(s *setup, _ *xds.Options) {
			s.resources.Providers[0].BaseURL = mustURL(t, "https://x:65536")
		},
	} {
		s, o := setups(t)[0], options()
		change(&s, &o)
		if r, err := xds.Build(config(t, s.resources), nil, o, "epoch-1"); err == nil || r != nil {
			t.Errorf("%s: Build gives %v, %v; want an error alone", name, r, err)
		}
	}
}
