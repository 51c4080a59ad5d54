package xds

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	contentv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/content_parsers/json/v3"
	jsonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/json_to_metadata/v3"
	ssev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/sse_to_metadata/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ls1intum/edutelligence/logos/dialect"
)

// maxEventBytes bounds one event of a stream: response.completed carries the whole answer.
const maxEventBytes = 10 << 20

// usageRules reads fields out of a response's JSON: numbers into one namespace of metadata, texts into
// another, from which the log takes a bounded part of each.
func (b *builder) usageRules(fields []dialect.UsageField) []*jsonv3.JsonToMetadata_Rule {
	rules := make([]*jsonv3.JsonToMetadata_Rule, 0, len(fields))
	for _, f := range fields {
		kind, namespace := jsonv3.JsonToMetadata_STRING, b.o.TextNamespace
		if f.Limit == 0 {
			kind, namespace = jsonv3.JsonToMetadata_NUMBER, b.o.NumberNamespace
		}
		rule := &jsonv3.JsonToMetadata_Rule{OnPresent: &jsonv3.JsonToMetadata_KeyValuePair{MetadataNamespace: namespace, Key: f.Key, Type: kind}}
		for _, key := range f.Path {
			rule.Selectors = append(rule.Selectors, &jsonv3.JsonToMetadata_Selector{Selector: &jsonv3.JsonToMetadata_Selector_Key{Key: key}})
		}
		rules = append(rules, rule)
	}
	return rules
}

func (b *builder) usageJSON() *jsonv3.JsonToMetadata {
	return &jsonv3.JsonToMetadata{ResponseRules: &jsonv3.JsonToMetadata_MatchRules{
		Rules:                  b.usageRules(b.o.AnswerFields),
		AllowContentTypesRegex: &matcherv3.RegexMatcher{Regex: `application/([a-z0-9.-]+\+)?json( *;.*)?`},
	}}
}

// sseFilter is the filter that reads streams of unknown kind. Its name is not the one of before there were
// kinds: a listener that still drains has that filter alone, and these routes must not turn it off there.
const sseFilter = "usage_stream"

// sseFilters are one for each kind of stream, which its routes turn on instead of the first.
func (b *builder) sseFilters() []*hcmv3.HttpFilter {
	out := []*hcmv3.HttpFilter{b.filter(sseFilter, b.usageSSE(b.o.StreamFields))}
	for _, k := range b.o.StreamKinds {
		f := b.filter(sseFilter+"_"+k.Name, b.usageSSE(k.Fields))
		f.Disabled = true
		out = append(out, f)
	}
	return out
}

// sseOf turns the filter of one kind of stream on, and the general one off.
func (b *builder) sseOf(k dialect.StreamKind) map[string]*anypb.Any {
	return map[string]*anypb.Any{
		sseFilter:                b.any(&routev3.FilterConfig{Disabled: true}),
		sseFilter + "_" + k.Name: b.any(&routev3.FilterConfig{Config: &anypb.Any{}}),
	}
}

func (b *builder) usageSSE(fields []dialect.UsageField) *ssev3.SseToMetadata {
	parser := &contentv3.JsonContentParser{}
	for _, r := range b.usageRules(fields) {
		parser.Rules = append(parser.Rules, &contentv3.JsonContentParser_RuleConfig{Rule: r})
	}
	return &ssev3.SseToMetadata{ResponseRules: &ssev3.SseToMetadata_ProcessingRules{
		MaxEventSize:  wrapperspb.UInt32(maxEventBytes),
		ContentParser: b.extension("envoy.content_parsers.json", parser),
	}}
}
