package extproc

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// The names under which Envoy keeps what a decision tells it.
const (
	Namespace      = "logos"       // untyped metadata: the decision and the rewrites
	DecisionKey    = "d"           // in Namespace
	RouteNamespace = "logos.route" // typed metadata: the targets in their order
)

// A refusal is an error with the decision that led to it.
type refusal struct {
	decision *logos.Decision
	err      *logos.Error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// asRefusal returns what the caller may know of an error.
func asRefusal(err error) *logos.Error {
	if e, ok := errors.AsType[*logos.Error](err); ok {
		return e
	}
	return logos.Errorf(logos.Internal, "internal_error", "the gateway failed to decide this call: try again, and report the request id if it goes on")
}

// refuse answers with an error in the caller's dialect. A refused call of a known key is recorded, with as
// much of its decision as there is.
func (c *call) refuse(e *logos.Error, cause error) *extprocv3.ProcessingResponse {
	var metadata *structpb.Struct
	if c.key != nil {
		d := c.decision(nil, "", max(0, c.contentLength))
		if r, ok := errors.AsType[*refusal](cause); ok {
			d = r.decision
		}
		d.Refusal, d.Deadline = e.Code, 0
		if encoded, err := json.Marshal(d); err == nil {
			metadata = namespace(map[string]*structpb.Value{DecisionKey: structpb.NewStringValue(string(encoded))})
		}
	}
	headers := append(retryHeaders(e), c.limitHeaders(e)...)
	api := c.route.API
	if c.anthropic || strings.HasPrefix(c.path, "/v1/messages") {
		api = logos.APIMessages
		headers = append(headers, setHeader("request-id", string(c.id))) // where Anthropic's clients look for it
	}
	body := dialect.ErrorBody(api, e, c.id)
	return immediate(dialect.Status(e.Kind), "logos_"+e.Code, body, headers, metadata)
}

func immediate(status int, details string, body []byte, headers []*corev3.HeaderValueOption, metadata *structpb.Struct) *extprocv3.ProcessingResponse {
	headers = append(headers, setHeader("content-type", "application/json"))
	return &extprocv3.ProcessingResponse{
		DynamicMetadata: metadata,
		Response: &extprocv3.ProcessingResponse_ImmediateResponse{ImmediateResponse: &extprocv3.ImmediateResponse{
			Status:  &typev3.HttpStatus{Code: typev3.StatusCode(status)},
			Headers: &extprocv3.HeaderMutation{SetHeaders: headers},
			Body:    body,
			Details: details,
		}},
	}
}

func continueWithBody() *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{}}}
}

// withoutBody tells Envoy not to buffer the body, and to leave the response alone.
var withoutBody = &modev3.ProcessingMode{
	RequestHeaderMode: modev3.ProcessingMode_SEND, RequestBodyMode: modev3.ProcessingMode_NONE,
	ResponseHeaderMode: modev3.ProcessingMode_SKIP, ResponseBodyMode: modev3.ProcessingMode_NONE,
	RequestTrailerMode: modev3.ProcessingMode_SKIP, ResponseTrailerMode: modev3.ProcessingMode_SKIP,
}

// dispatch tells Envoy the targets, what each changes, what to keep from providers, and with a plan what to do
// after attempts that fail.
func (c *call) dispatch(d *logos.Decision, encoded []byte, rewrites []string, plan *dialect.Plan) (*extprocv3.ProcessingResponse, error) {
	fields := make(map[string]*structpb.Value, 2+len(rewrites))
	fields[DecisionKey] = structpb.NewStringValue(string(encoded))
	for i, t := range d.Targets {
		fields[t.Cluster] = structpb.NewStringValue(rewrites[i])
	}
	if plan != nil {
		fields[dialect.PlanKey] = structpb.NewStringValue(plan.Encode())
	}
	route, err := inOrder(d.Targets)
	if err != nil {
		return nil, err
	}
	set := c.attempts(d, plan)
	if c.timeout > 0 {
		set = append(set, setHeader("x-envoy-upstream-rq-timeout-ms", strconv.FormatInt(c.timeout.Milliseconds(), 10)))
	}
	common := &extprocv3.CommonResponse{
		ClearRouteCache: true,
		HeaderMutation:  &extprocv3.HeaderMutation{SetHeaders: set, RemoveHeaders: c.keyHeaders},
	}
	answer := &extprocv3.ProcessingResponse{DynamicMetadata: namespace(fields), TypedDynamicMetadata: route}
	if c.bodySeen {
		answer.Response = &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: common}}
		return answer, nil
	}
	answer.ModeOverride = withoutBody
	answer.Response = &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{Response: common}}
	return answer, nil
}

func namespace(fields map[string]*structpb.Value) *structpb.Struct {
	return object(map[string]*structpb.Value{Namespace: structpb.NewStructValue(object(fields))})
}

func object(fields map[string]*structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: fields}
}

func setHeader(name, v string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, RawValue: []byte(v)},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}
