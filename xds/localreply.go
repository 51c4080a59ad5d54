package xds

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// A localReply is an answer that Envoy itself gives, where neither ext_proc nor a provider does.
type localReply struct {
	when      string // CEL; the first that holds is used
	code      string
	openAI    string // error type
	anthropic string
	message   string
}

var localReplies = []localReply{
	{`response.code_details.startsWith('ext_proc')`, "gateway_unavailable", "server_error", "api_error", "the gateway can't decide calls at the moment: try again in a few seconds"},
	{`response.code == 413`, "request_too_large", "invalid_request_error", "request_too_large", "the request body is larger than the gateway's limit"},
	{`response.code_details.contains('overload')`, "overloaded", "server_error", "overloaded_error", "the gateway has no room for this call: try again in a few seconds"},
	{`response.code == 504 || response.code == 408`, "upstream_timeout", "server_error", "api_error", "the provider did not answer in time"},
	{`response.code >= 500`, "upstream_unavailable", "server_error", "api_error", "no provider could be reached, or its answer broke off before it began"},
	{`true`, "invalid_request", "invalid_request_error", "invalid_request_error", "the gateway can't read this request as HTTP"},
}

// localReplies gives Envoy's own answers the caller's dialect and a stable code. What ext_proc answers
// (its details begin with "logos") stays as it is.
func (b *builder) localReplies() *hcmv3.LocalReplyConfig {
	config := &hcmv3.LocalReplyConfig{}
	for _, r := range localReplies {
		ours := "!response.code_details.startsWith('logos') && (" + r.when + ")"
		config.Mappers = append(config.Mappers,
			b.anthropicMapper(ours+" && request.path.startsWith('/v1/messages')", map[string]any{
				"type": "error", "request_id": "%REQ(X-REQUEST-ID)%",
				"error": map[string]any{"type": r.anthropic, "message": r.message, "code": r.code},
			}),
			b.mapper(ours, map[string]any{"error": map[string]any{
				"message": r.message, "type": r.openAI, "param": nil, "code": r.code, "request_id": "%REQ(X-REQUEST-ID)%",
			}}))
	}
	return config
}

// anthropicMapper also names the request where Anthropic's clients look for it.
func (b *builder) anthropicMapper(when string, body map[string]any) *hcmv3.ResponseMapper {
	m := b.mapper(when, body)
	m.HeadersToAdd = []*corev3.HeaderValueOption{overwrite("request-id", "%REQ(X-REQUEST-ID)%")}
	return m
}

func (b *builder) mapper(when string, body map[string]any) *hcmv3.ResponseMapper {
	format, err := structpb.NewStruct(body)
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("local reply: %w", err)
	}
	return &hcmv3.ResponseMapper{
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: b.any(&celv3.ExpressionFilter{Expression: when})},
		}}},
		BodyFormatOverride: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: format}},
	}
}
