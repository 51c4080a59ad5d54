package xds

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	groupsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/router/cluster_specifiers/priority_group/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ls1intum/edutelligence/logos/dialect"
)

// maxRetries is what routes allow; a call's own bound comes from its decision.
const maxRetries = 2

// route is the same whatever the configuration: targets come with each call's metadata.
func (b *builder) route() *routev3.RouteConfiguration {
	var routes []*routev3.Route
	if b.o.AdminRoute != "" {
		routes = append(routes, b.adminRoute())
	}
	routes = append(routes, b.plannedRoute())
	for _, k := range b.o.StreamKinds {
		for _, path := range k.Paths {
			r := b.callRoute("call_"+k.Name, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: path}})
			r.TypedPerFilterConfig = b.sseOf(k)
			routes = append(routes, r)
		}
	}
	routes = append(routes, b.callRoute("call", everything()))
	return &routev3.RouteConfiguration{
		Name:             routeName,
		ValidateClusters: wrapperspb.Bool(false),
		VirtualHosts: []*routev3.VirtualHost{{
			Name: "calls", Domains: []string{"*"}, Routes: routes,
			TypedPerFilterConfig:   b.rewrites(),
			RequestBodyBufferLimit: wrapperspb.UInt64(uint64(b.o.MaxBodyBytes)),
			// What is added has no value where it does not apply, and leaves a provider's header of that name.
			ResponseHeadersToRemove: []string{"x-logos-model", "x-logos-provider", "x-logos-attempts", dialect.AgainHeader, dialect.AgainInHeader},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{
				overwrite("x-logos-model", "%CLUSTER_METADATA("+b.o.Namespace+":model)%"),
				overwrite("x-logos-provider", "%CLUSTER_METADATA("+b.o.Namespace+":provider)%"),
				overwrite("x-logos-attempts", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
				overwrite("x-logos-attempts", "%DYNAMIC_METADATA("+dialect.AttemptsNamespace+":"+dialect.AttemptsMade+")%"),
			},
		}},
	}
}

// rewriteFilter is the upstream filter of each cluster that applies what the decision says of it.
const rewriteFilter = "rewrite"

// rewrites is the one script for all clusters. With a script in each cluster, Envoy would keep an
// interpreter for every cluster in every thread: 100 KB each.
func (b *builder) rewrites() map[string]*anypb.Any {
	return map[string]*anypb.Any{rewriteFilter: b.any(&luav3.LuaPerRoute{Override: &luav3.LuaPerRoute_SourceCode{
		SourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: dialect.Lua(b.o.AgainMark)}},
	}})}
}

func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
}

func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

func (b *builder) callRoute(name string, match *routev3.RouteMatch) *routev3.Route {
	// Without a decision's groups, the call goes to a cluster that does not exist: a 503.
	groups := &groupsv3.PriorityGroupClusterSpecifier{
		OverrideMetadataNamespace: b.o.RouteNamespace,
		PriorityGroups: []*groupsv3.PriorityGroup{{
			Name: "none", Clusters: []*groupsv3.ClusterWeight{{ClusterName: "undecided", Weight: wrapperspb.UInt32(1)}},
		}},
	}
	return &routev3.Route{
		Name: name, Match: match,
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_InlineClusterSpecifierPlugin{InlineClusterSpecifierPlugin: &routev3.ClusterSpecifierPlugin{
				Extension: b.extension("priority_group", groups),
			}},
			// A model may think for minutes: no bound on the whole but the deadline of its reservation.
			Timeout:           durationpb.New(0),
			IdleTimeout:       seconds(b.o.IdleTimeout),
			MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: seconds(b.o.MaxDuration)},
			RetryPolicy: &routev3.RetryPolicy{
				// 5xx includes no connection, a reset and no answer. Without envoy-ratelimited, a 429 with the header
				// x-envoy-ratelimited, from a provider behind another Envoy, would never be tried elsewhere.
				RetryOn:               "5xx,retriable-status-codes,envoy-ratelimited",
				RetriableStatusCodes:  []uint32{429},
				NumRetries:            wrapperspb.UInt32(maxRetries),
				PerTryTimeout:         seconds(b.o.FirstByteTimeout),
				RefreshClusterOnRetry: true,
				RetryBackOff:          &routev3.RetryPolicy_RetryBackOff{BaseInterval: seconds(time.Millisecond), MaxInterval: seconds(10 * time.Millisecond)},
			},
		}},
	}
}

// plannedRoute takes calls whose decision has a plan: another attempt follows what the plan's headers name, and
// answers that the upstream Lua filter marks. The first route of a call, by which its filters are chosen, is one
// of the others, since nothing is decided then. They also serve decisions of a version without plans.
func (b *builder) plannedRoute() *routev3.Route {
	r := b.callRoute("planned", everything())
	r.Match.DynamicMetadata = []*matcherv3.MetadataMatcher{{
		Filter: b.o.Namespace, Path: []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: dialect.PlanKey}}},
		Value: &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: true}},
	}}
	action := r.GetRoute()
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: nextCluster()}
	policy := action.RetryPolicy
	policy.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: seconds(time.Millisecond), MaxInterval: seconds(time.Millisecond)}
	policy.RetryOn, policy.RetriableStatusCodes = "retriable-headers", nil
	policy.RetriableHeaders = []*routev3.HeaderMatcher{{Name: dialect.AgainHeader, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_Exact{Exact: b.o.AgainMark},
	}}}}
	policy.RateLimitedRetryBackOff = &routev3.RetryPolicy_RateLimitedRetryBackOff{
		// Beyond the maximum Envoy would wait for the usual milliseconds instead.
		ResetHeaders: []*routev3.RetryPolicy_ResetHeader{{Name: dialect.AgainInHeader, Format: routev3.RetryPolicy_SECONDS}}, MaxInterval: seconds(b.o.MaxDuration),
	}
	return r
}

// nextCluster is what a header names, for the first attempt and then for every second: with each attempt Envoy takes
// what it has not taken yet, and begins anew when it had both. Another one begins between attempts by chance, once in
// a billion, and goes on from there.
func nextCluster() *routev3.WeightedCluster {
	return &routev3.WeightedCluster{Clusters: []*routev3.WeightedCluster_ClusterWeight{
		{ClusterHeader: dialect.ClusterHeader, Weight: wrapperspb.UInt32(1_000_000_000)},
		{Name: dialect.BetweenAttempts, Weight: wrapperspb.UInt32(1)},
	}}
}

// adminRoute serves /logosdb on the data plane's port, as the original did.
func (b *builder) adminRoute() *routev3.Route {
	return &routev3.Route{
		Name: "logosdb", Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/logosdb/"}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: adminCluster}}},
		TypedPerFilterConfig: map[string]*anypb.Any{"ext_proc": b.any(&extprocv3.ExtProcPerRoute{
			Override: &extprocv3.ExtProcPerRoute_Disabled{Disabled: true},
		})},
	}
}
