package xds_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	injectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	genericv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

func unpack[T proto.Message](t *testing.T, a *anypb.Any, into T) T {
	t.Helper()
	if err := a.UnmarshalTo(into); err != nil {
		t.Fatal(err)
	}
	return into
}

func filters(t *testing.T, c *clusterv3.Cluster) []*hcmv3.HttpFilter {
	t.Helper()
	return unpack(t, c.GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"], &httpv3.HttpProtocolOptions{}).GetHttpFilters()
}

// targets pairs each target of a configuration with its cluster.
func targets(t *testing.T, s setup) map[*logos.Target]*clusterv3.Cluster {
	t.Helper()
	r, out := build(t, s), make(map[*logos.Target]*clusterv3.Cluster)
	for _, target := range config(t, s.resources).Targets() {
		for _, c := range r.Clusters {
			if c.GetName() == target.Cluster {
				out[target] = c
			}
		}
		if out[target] == nil {
			t.Fatalf("%s: the target %s has no cluster", s.name, target.Cluster)
		}
	}
	return out
}

func TestEveryClusterScrubsWhatIsNotForItsProvider(t *testing.T) {
	internal := []string{"logos_key", "logos-key", "proxy", "accept-encoding", "x-logos-*", "x-envoy-*", "x-forwarded-*"}
	caller := []string{"authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"}
	for _, s := range setups(t) {
		for target, c := range targets(t, s) {
			first := filters(t, c)[0]
			var removed []string
			for _, m := range unpack(t, first.GetTypedConfig(), &headerv3.HeaderMutation{}).GetMutations().GetRequestMutations() {
				removed = append(removed, m.GetRemove())
				if m.GetRemove() == "" {
					removed[len(removed)-1] = m.GetRemoveOnMatch().GetKeyMatcher().GetPrefix() + "*"
				}
			}
			for _, h := range internal {
				if !slices.Contains(removed, h) {
					t.Errorf("%s: %s lets %s through", s.name, c.GetName(), h)
				}
			}
			for _, h := range caller {
				if own := target.Credential == nil; slices.Contains(removed, h) == own {
					t.Errorf("%s: %s, whose callers use their own headers: %t, removes %s: %t", s.name, c.GetName(), own, h, !own)
				}
			}
		}
	}
}

// All attempts of a call share one header map: what one provider authenticates with must not reach the next.
func TestEveryClusterScrubsOtherProvidersCredentials(t *testing.T) {
	s := setups(t)[1]
	s.resources.Providers[1].AuthHeader = "x-litellm-key"
	for target, c := range targets(t, s) {
		if target.Provider.AuthHeader == "x-litellm-key" {
			continue
		}
		if scrub := filters(t, c)[0].GetTypedConfig().GetValue(); !bytes.Contains(scrub, []byte("x-litellm-key")) {
			t.Errorf("%s, which leads to %s, lets x-litellm-key through", c.GetName(), target.Provider.Name)
		}
	}
}

func TestInjectsTheTargetsOwnCredential(t *testing.T) {
	for _, s := range setups(t) {
		secrets := make(map[string]string)
		for _, x := range build(t, s).Secrets {
			secrets[x.GetName()] = x.GetGenericSecret().GetSecret().GetInlineString()
		}
		for target, c := range targets(t, s) {
			want := []string{"scrub", "rewrite", "codec"}
			injects := target.Credential != nil && target.Credential.Secret != ""
			if injects {
				want = []string{"scrub", "credential", "rewrite", "codec"}
			}
			var got []string
			list := filters(t, c)
			for _, f := range list {
				got = append(got, f.GetName())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: the filters of %s differ (-want +got):\n%s", s.name, c.GetName(), diff)
			}
			if !injects {
				continue
			}
			injector := unpack(t, list[1].GetTypedConfig(), &injectorv3.CredentialInjector{})
			generic := unpack(t, injector.GetCredential().GetTypedConfig(), &genericv3.Generic{})
			value := strings.ReplaceAll(target.Provider.AuthFormat, "{}", string(target.Credential.Secret))
			if secrets[generic.GetCredential().GetName()] != value || generic.GetHeader() != target.Provider.AuthHeader || !injector.GetOverwrite() {
				t.Errorf("%s: %s injects %v, want its credential over what is there", s.name, c.GetName(), generic)
			}
		}
	}
}

func TestProvidersCertificatesAreChecked(t *testing.T) {
	for _, s := range setups(t) {
		for target, c := range targets(t, s) {
			if target.Provider.BaseURL.Scheme == "http" {
				if c.GetTransportSocket() != nil {
					t.Errorf("%s: %s speaks TLS to %s", s.name, c.GetName(), target.Provider.BaseURL)
				}
				continue
			}
			tls := unpack(t, c.GetTransportSocket().GetTypedConfig(), &tlsv3.UpstreamTlsContext{})
			validation := tls.GetCommonTlsContext().GetValidationContext()
			host, _ := target.Provider.Address()
			byName := tls.GetSni() == host && tls.GetAutoSniSanValidation()
			byAddress := tls.GetSni() == "" && len(validation.GetMatchTypedSubjectAltNames()) == 1 && validation.GetMatchTypedSubjectAltNames()[0].GetMatcher().GetExact() == host
			if validation.GetTrustedCa().GetFilename() == "" || byName == byAddress {
				t.Errorf("%s: %s does not check the certificate of %s: %v", s.name, c.GetName(), host, tls)
			}
		}
	}
}

func TestOneScriptServesAllClusters(t *testing.T) {
	for _, s := range setups(t) {
		for target, c := range targets(t, s) {
			list := filters(t, c)
			matched := unpack(t, list[len(list)-2].GetTypedConfig(), &matchingv3.ExtensionWithMatcher{})
			if lua := unpack(t, matched.GetExtensionConfig().GetTypedConfig(), &luav3.Lua{}); lua.GetDefaultSourceCode() != nil {
				t.Errorf("%s: Envoy keeps an interpreter for %s alone", s.name, c.GetName())
			}
			scrub := unpack(t, list[0].GetTypedConfig(), &headerv3.HeaderMutation{}).GetMutations().GetRequestMutations()
			if last := scrub[len(scrub)-1].GetAppend().GetHeader(); last.GetKey() != dialect.TargetHeader || last.GetValue() != target.Cluster {
				t.Errorf("%s: the script is told that %s is %v", s.name, c.GetName(), last)
			}
		}
		for _, host := range build(t, s).Routes[0].GetVirtualHosts() {
			if lua := unpack(t, host.GetTypedPerFilterConfig()["rewrite"], &luav3.LuaPerRoute{}); lua.GetSourceCode().GetInlineString() != dialect.Lua("mark") {
				t.Errorf("%s: the calls of %s have no script", s.name, host.GetName())
			}
		}
	}
}
