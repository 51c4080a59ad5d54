package xds

import (
	"net/netip"
	"slices"
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	matchingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/matching/v3"
	actionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/matcher/action/v3"
	injectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	codecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	genericv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

const (
	httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
	// Providers drop idle connections after a minute or more; leaving them first avoids most resets.
	upstreamIdle = 50 * time.Second
)

// Envoy's own defaults (1,024 requests, 3 retries) refuse calls long before a provider does; how much a
// deployment takes is for Logos to decide, not for a breaker that knows nothing of fairness.
var thresholds = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
	MaxConnections: wrapperspb.UInt32(100_000), MaxPendingRequests: wrapperspb.UInt32(100_000),
	MaxRequests: wrapperspb.UInt32(100_000), MaxRetries: wrapperspb.UInt32(100_000),
}}}

// Headers that never reach a provider. All attempts of a call share one header map, so what an earlier
// attempt added for another provider is among them. accept-encoding goes because Envoy can read usage in
// uncompressed answers only.
var (
	internalHeaders  = []string{"logos_key", "logos-key", "proxy", "accept-encoding", "forwarded", "via", "x-real-ip"}
	internalPrefixes = []string{"x-logos-", "x-envoy-", "x-forwarded-"}
	callerHeaders    = []string{"authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key", "cookie"}
)

// credentialHeaders holds the usual headers of credentials, and those that some target uses beside.
func credentialHeaders(targets []*logos.Target) []string {
	names := append([]string(nil), callerHeaders...)
	for _, t := range targets {
		if h := t.Provider.AuthHeader; h != "" && !slices.Contains(names, h) {
			names = append(names, h)
		}
	}
	slices.Sort(names[len(callerHeaders):])
	return names
}

// cluster prepares the attempts at one target: scrub, credential, rewrite. Where it leads is for locate to
// add; certificates are checked against the host's name whatever its addresses are.
func (b *builder) cluster(t *logos.Target) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: t.Cluster, AltStatName: t.StatName(), ConnectTimeout: seconds(dialect.ConnectTimeout),
		CircuitBreakers: thresholds,
		Metadata:        clusterMetadata(b.o.Namespace, t),
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime: wrapperspb.UInt32(60), KeepaliveInterval: wrapperspb.UInt32(20), KeepaliveProbes: wrapperspb.UInt32(3),
		}},
	}
	host, _ := t.Provider.Address()
	options := &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: seconds(upstreamIdle)},
		HttpFilters:               b.upstreamFilters(t),
	}
	if t.Provider.BaseURL.Scheme == "https" {
		c.TransportSocket = b.upstreamTLS(host)
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_AutoConfig{AutoConfig: &httpv3.HttpProtocolOptions_AutoHttpConfig{}}
	} else {
		options.UpstreamProtocolOptions = explicitHTTP1()
	}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptions: b.any(options)}
	return c
}

func explicitHTTP1() *httpv3.HttpProtocolOptions_ExplicitHttpConfig_ {
	return &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
	}}
}

// clusterMetadata holds what response headers say about who answered.
func clusterMetadata(namespace string, t *logos.Target) *corev3.Metadata {
	fields := map[string]*structpb.Value{"provider": structpb.NewStringValue(t.Provider.Name)}
	if t.Model != nil {
		fields["model"] = structpb.NewStringValue(t.Model.Name)
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{namespace: {Fields: fields}}}
}

// upstreamTLS checks the provider's certificate against the roots and its name.
func (b *builder) upstreamTLS(host string) *corev3.TransportSocket {
	validation := &tlsv3.CertificateValidationContext{
		TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: b.o.CAFile}},
	}
	tls := &tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation},
	}}
	if _, err := netip.ParseAddr(host); err == nil { // no SNI for addresses
		validation.MatchTypedSubjectAltNames = []*tlsv3.SubjectAltNameMatcher{{
			SanType: tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: host}},
		}}
	} else {
		tls.Sni, tls.AutoSniSanValidation = host, true
	}
	return &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.any(tls)}}
}

func (b *builder) upstreamFilters(t *logos.Target) []*hcmv3.HttpFilter {
	prepare := append(b.scrub(t.Credential == nil), nameTarget(t.Cluster))
	filters := []*hcmv3.HttpFilter{b.filter("scrub", &headerv3.HeaderMutation{Mutations: &headerv3.Mutations{RequestMutations: prepare}})}
	if injects(t) {
		filters = append(filters, b.filter("credential", &injectorv3.CredentialInjector{
			Overwrite: true,
			Credential: b.extension("generic", &genericv3.Generic{
				Header:     t.Provider.AuthHeader,
				Credential: &tlsv3.SdsSecretConfig{Name: secretName(t.Credential), SdsConfig: ads()},
			}),
		}))
	}
	return append(filters,
		b.rewriteFilter(),
		b.filter("codec", &codecv3.UpstreamCodec{}))
}

// rewriteFilter applies a decision to an attempt. Its code is the virtual host's, see rewrites. Of answers it is
// shown errors and streams alone: to begin a script for every answer would cost some hundredths of a short call.
func (b *builder) rewriteFilter() *hcmv3.HttpFilter {
	matches := func(input proto.Message, value *xdsmatcherv3.StringMatcher) *xdsmatcherv3.Matcher_MatcherList_Predicate {
		return &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
			SinglePredicate: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
				Input:   &xdscorev3.TypedExtensionConfig{Name: "input", TypedConfig: b.any(input)},
				Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: value},
			},
		}}
	}
	well := matches(&matcherv3.HttpResponseStatusCodeClassMatchInput{}, &xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Exact{Exact: "2xx"}})
	stream := matches(&matcherv3.HttpResponseHeaderMatchInput{HeaderName: "content-type"}, &xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_Prefix{Prefix: "text/event-stream"}})
	whole := &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: stream}}
	return b.filter(rewriteFilter, &matchingv3.ExtensionWithMatcher{
		ExtensionConfig: b.extension(rewriteFilter, &luav3.Lua{}),
		XdsMatcher: &xdsmatcherv3.Matcher{MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{
			Matchers: []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher{{
				Predicate: &xdsmatcherv3.Matcher_MatcherList_Predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher{
					AndMatcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: []*xdsmatcherv3.Matcher_MatcherList_Predicate{well, whole}},
				}},
				OnMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
					Action: &xdscorev3.TypedExtensionConfig{Name: "skip", TypedConfig: b.any(&actionv3.SkipFilter{})},
				}},
			}},
		}}},
	})
}

// scrub removes what a provider may not see. A caller that passes through with its own provider headers
// keeps those.
func (b *builder) scrub(own bool) []*mutationv3.HeaderMutation {
	var out []*mutationv3.HeaderMutation
	names := internalHeaders
	if !own {
		names = append(append([]string(nil), internalHeaders...), b.scrubbed...)
	}
	for _, n := range names {
		out = append(out, removeHeader(n))
	}
	for _, p := range internalPrefixes {
		out = append(out, removePrefix(p))
	}
	return out
}

// nameTarget tells the rewriting filter which target the attempt goes to; it takes the header off.
func nameTarget(cluster string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: overwrite(dialect.TargetHeader, cluster)}}
}

func removeHeader(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

func removePrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
		KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
	}}}
}

// unixCluster leads to a gRPC server of this gateway. Its limits lie above what the data plane lets in,
// and its windows take a large body in few steps.
func (b *builder) unixCluster(name, socket string) *clusterv3.Cluster {
	options := &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
				InitialStreamWindowSize: wrapperspb.UInt32(4 << 20), InitialConnectionWindowSize: wrapperspb.UInt32(16 << 20),
			}},
		}},
	}
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: seconds(time.Second), CircuitBreakers: thresholds,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment:                endpoints(name, &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: socket}}}),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(4 << 20),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: b.any(options)},
	}
}

// betweenAttempts is the cluster of attempts that only decide where the next goes. Its socket does not exist, so
// they fail to connect, which is cheap, counts as a failure in the retry policy, and reaches nobody.
func (b *builder) betweenAttempts() *clusterv3.Cluster {
	const name = dialect.BetweenAttempts
	options := &httpv3.HttpProtocolOptions{UpstreamProtocolOptions: explicitHTTP1(), HttpFilters: []*hcmv3.HttpFilter{
		b.filter("scrub", &headerv3.HeaderMutation{Mutations: &headerv3.Mutations{RequestMutations: []*mutationv3.HeaderMutation{nameTarget(name)}}}),
		b.filter(rewriteFilter, &luav3.Lua{}),
		b.filter("codec", &codecv3.UpstreamCodec{}),
	}}
	return &clusterv3.Cluster{
		Name: name, ConnectTimeout: seconds(time.Second), CircuitBreakers: thresholds,
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment:                endpoints(name, &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "nowhere.sock"}}}),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{httpOptions: b.any(options)},
	}
}

// adminCluster leads to the admin listener of this gateway.
func (b *builder) adminCluster() *clusterv3.Cluster {
	address, err := tcpAddress(b.o.AdminRoute)
	if err != nil && b.err == nil {
		b.err = err
	}
	c := &clusterv3.Cluster{
		Name: adminCluster, ConnectTimeout: seconds(time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment:       endpoints(adminCluster, address),
	}
	if b.o.AdminTLS {
		// It is the listener beside; its certificate is for others, and names their name for it.
		c.TransportSocket = &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.any(&tlsv3.UpstreamTlsContext{})}}
	}
	return c
}
