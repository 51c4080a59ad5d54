package xds

import (
	"fmt"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	datalogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	filelogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// messageTimeout outlasts any decision; a dead ext_proc shows at once, as a broken connection.
	messageTimeout = 30 * time.Second
	// requestTimeout bounds how long a caller may take to send its request.
	requestTimeout = 5 * time.Minute
	headersTimeout = 30 * time.Second
)

// AccessLogName is the file, in Envoy's working directory, into which one Envoy process writes.
func AccessLogName(epoch string) string { return "access-" + epoch + ".log" }

// LiveLogName is the file beside it, for what attempts under way do: hints, which nothing waits for.
func LiveLogName(epoch string) string { return "live-" + epoch + ".log" }

// signEvery is how often Envoy says what an attempt under way does. A line costs it 7 µs.
const signEvery = time.Second

// attemptLogs are those of attempts: of record, and of hints.
func (b *builder) attemptLogs(epoch string) []*accesslogv3.AccessLog {
	record := b.accessLog(AccessLogName(epoch), b.o.AttemptFormat)
	record.Filter = logTypes(true, datalogv3.AccessLogType_UpstreamPeriodic)
	live := b.accessLog(LiveLogName(epoch), b.o.LiveFormat)
	live.Filter = logTypes(false, datalogv3.AccessLogType_UpstreamPeriodic, datalogv3.AccessLogType_UpstreamEnd)
	return []*accesslogv3.AccessLog{record, live}
}

// logTypes writes lines of some types alone, or of all others.
func logTypes(exclude bool, types ...datalogv3.AccessLogType) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{LogTypeFilter: &accesslogv3.LogTypeFilter{Types: types, Exclude: exclude}}}
}

func (b *builder) filter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.any(m)}}
}

func (b *builder) listener(epoch string) (*listenerv3.Listener, error) {
	address, err := tcpAddress(b.o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	chain := &listenerv3.FilterChain{Filters: []*listenerv3.Filter{{
		Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.any(b.connectionManager(epoch))},
	}}}
	if b.o.CertFile != "" {
		chain.TransportSocket = &corev3.TransportSocket{Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.any(&tlsv3.DownstreamTlsContext{
			CommonTlsContext: &tlsv3.CommonTlsContext{
				AlpnProtocols:                  []string{"h2", "http/1.1"},
				TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: listenerSecret, SdsConfig: ads()}},
			},
		})}}
	}
	return &listenerv3.Listener{
		Name: listenerName, Address: address, StatPrefix: listenerName,
		// The bound of what is held of one answer that is read as a whole. Requests have their own, lower one.
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(uint32(max(b.o.MaxResponseBytes, b.o.MaxBodyBytes))),
		FilterChains:                  []*listenerv3.FilterChain{chain},
	}, nil
}

func (b *builder) connectionManager(epoch string) *hcmv3.HttpConnectionManager {
	router := &routerv3.Router{
		SuppressEnvoyHeaders: true,
		UpstreamLogOptions:   &routerv3.Router_UpstreamAccessLogOptions{FlushUpstreamLogOnUpstreamStream: true, UpstreamLogFlushInterval: seconds(signEvery)},
		UpstreamLog:          b.attemptLogs(epoch),
	}
	filters := append([]*hcmv3.HttpFilter{b.filter("ext_proc", b.extProc(epoch))}, b.sseFilters()...)
	filters = append(filters, b.filter("usage_json", b.usageJSON()), b.filter("envoy.filters.http.router", router))
	return &hcmv3.HttpConnectionManager{
		StatPrefix: listenerName,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: routeName, ConfigSource: ads(),
		}},
		HttpFilters:                   filters,
		AccessLog:                     []*accesslogv3.AccessLog{b.accessLog(AccessLogName(epoch), b.o.CallFormat)},
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{b.extension("early", &earlyv3.HeaderMutation{Mutations: b.earlyMutations()})},
		UseRemoteAddress:              wrapperspb.Bool(true),
		XffNumTrustedHops:             b.o.TrustedHops,
		AlwaysSetRequestIdInResponse:  true,
		StreamIdleTimeout:             seconds(b.o.IdleTimeout),
		RequestTimeout:                seconds(requestTimeout),
		RequestHeadersTimeout:         seconds(headersTimeout),
		// So that ext_proc sees an upgrade and refuses it in the caller's dialect.
		UpgradeConfigs:   []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		LocalReplyConfig: b.localReplies(),
	}
}

// earlyMutations removes, before Envoy itself reads any header, what callers may not say: a request id
// sent twice would make two calls one, and Envoy obeys x-envoy-*. Unknown x-logos-* headers are read by
// nobody, and go with the others at each cluster.
func (b *builder) earlyMutations() []*mutationv3.HeaderMutation {
	mutations := []*mutationv3.HeaderMutation{removeHeader("x-request-id"), removePrefix("x-envoy-")}
	if b.o.TrustedHops == 0 {
		return append(mutations, removePrefix("x-forwarded-"))
	}
	// Envoy finds the caller in x-forwarded-for. The others that it reads go; all of them go at each cluster.
	for _, name := range []string{"x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-client-cert"} {
		mutations = append(mutations, removeHeader(name))
	}
	return mutations
}

func (b *builder) accessLog(path string, format map[string]string) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{Name: "file", ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.any(&filelogv3.FileAccessLog{
		Path: path,
		AccessLogFormat: &filelogv3.FileAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
			Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: jsonFormat(format)},
			OmitEmptyValues: true,
		}},
	})}}
}

func jsonFormat(format map[string]string) *structpb.Struct {
	fields := make(map[string]*structpb.Value, len(format))
	for k, v := range format {
		fields[k] = structpb.NewStringValue(v)
	}
	return &structpb.Struct{Fields: fields}
}

// extProc sends headers, then the body as a whole; the server leaves the body out where it need not
// change. The response never goes there.
func (b *builder) extProc(epoch string) *extprocv3.ExternalProcessor {
	var headers []*matcherv3.StringMatcher
	for _, h := range b.o.RequestHeaders {
		headers = append(headers, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: h}})
	}
	headers = append(headers, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "x-logos-"}})
	return &extprocv3.ExternalProcessor{
		GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: extProcCluster}},
			InitialMetadata: []*corev3.HeaderValue{
				{Key: b.o.EpochHeader, Value: epoch},
				// The peer's address, or what the trusted proxies in front say of theirs.
				{Key: b.o.SourceHeader, Value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
			},
		},
		ProcessingMode: &extprocv3.ProcessingMode{
			RequestHeaderMode: extprocv3.ProcessingMode_SEND, RequestBodyMode: extprocv3.ProcessingMode_BUFFERED,
			ResponseHeaderMode: extprocv3.ProcessingMode_SKIP, ResponseBodyMode: extprocv3.ProcessingMode_NONE,
			RequestTrailerMode: extprocv3.ProcessingMode_SKIP, ResponseTrailerMode: extprocv3.ProcessingMode_SKIP,
		},
		AllowModeOverride: true,
		MessageTimeout:    seconds(messageTimeout),
		StatusOnError:     &typev3.HttpStatus{Code: typev3.StatusCode_ServiceUnavailable},
		MutationRules:     &mutationv3.HeaderMutationRules{AllowEnvoy: wrapperspb.Bool(true)},
		ForwardRules:      &extprocv3.HeaderForwardingRules{AllowedHeaders: &matcherv3.ListStringMatcher{Patterns: headers}},
		MetadataOptions: &extprocv3.MetadataOptions{ReceivingNamespaces: &extprocv3.MetadataOptions_MetadataNamespaces{
			Untyped: []string{b.o.Namespace}, Typed: []string{b.o.RouteNamespace},
		}},
	}
}
