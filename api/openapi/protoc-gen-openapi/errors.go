package main

import (
	"encoding/json"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
)

// A refusal is one way in which calls fail.
type refusal struct {
	status, name, text string
	code               int    // of gRPC
	reason, message    string // an example
	field              string // of the example
}

// refusals are all, in the order of their statuses.
var refusals = []refusal{
	{"400", "BadRequest", "The request is wrong: the answer says which field, and what would be right.", 3, "INVALID_FIELD", "project.name: must be given", "project.name"},
	{"401", "Unauthorized", "There is no API key in the request, or none that works.", 16, "INVALID_API_KEY", "there is no such API key", ""},
	{"403", "Forbidden", "The role of the API key does not allow this.", 7, "NOT_ALLOWED", "the role \"member\" may not use CreateTeam: GET /admin/v1/whoami lists what it may", ""},
	{"404", "NotFound", "There is no such resource, or the API key may not see it.", 5, "NOT_FOUND", "there is no such project, or you may not see it", ""},
	{"409", "Conflict", "The present state does not allow this: the name is taken, the etag is old, or something depends on it.", 10, "ETAG_MISMATCH", "etag: somebody else changed it meanwhile", ""},
	{"429", "TooManyRequests", "A limit is reached.", 8, "KEY_LIMIT", "your team allows 5 keys for each member, and you have 5: revoke one first", ""},
	{"500", "InternalServerError", "The gateway failed; its log says how.", 13, "", "the gateway failed: see its log", ""},
	{"501", "NotImplemented", "What the resource is set up for does not have this.", 12, "DISCOVERY_NOT_SUPPORTED", "Azure lists its deployments to nobody by an API key: add them by the names that the Azure portal shows", ""},
	{"503", "ServiceUnavailable", "What is needed for this can't be reached for now: the database, the data plane or a provider. Try again.", 14, "GATEWAY_UNAVAILABLE", "the data plane can't be reached: see /readyz, and try again", ""},
}

// limited are the methods that limits apply to.
var limited = map[string]bool{"CreateApiKey": true, "TestProvider": true, "DiscoverModels": true}

// partial are the methods that some resources don't have.
var partial = map[string]bool{"TestProvider": true, "DiscoverModels": true}

// lookups are the methods that find what they are about by other means than an id in the path.
var lookups = map[string]bool{"ClaimApiKey": true, "EraseEndUser": true, "ExplainDecision": true}

// refusalsOf returns the ways in which a method may fail.
func refusalsOf(m *protogen.Method, verb string, inPath, public bool) (out []refusal) {
	for _, r := range refusals {
		applies := true
		switch r.status {
		case "401", "403":
			applies = !public
		case "404":
			applies = inPath || lookups[m.GoName]
		case "409":
			applies = verb != "get"
		case "429":
			applies = limited[m.GoName]
		case "501":
			applies = partial[m.GoName]
		}
		if applies {
			out = append(out, r)
		}
	}
	return out
}

func (r refusal) response() *openapi.Response {
	out := &openapi.Response{Description: r.text}
	out.Headers.Set("x-request-id", &openapi.Header{Ref: "#/components/headers/RequestId"})
	if r.status == "401" {
		out.Headers.Set("www-authenticate", &openapi.Header{Ref: "#/components/headers/Authenticate"})
	}
	out.Content.Set("application/json", openapi.Media{Schema: component("Status"), Example: r.example()})
	return out
}

func (r refusal) example() json.RawMessage {
	details := []any{}
	if r.reason != "" {
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": r.reason, "domain": "logos", "metadata": map[string]any{}})
	}
	if r.field != "" {
		details = append(details, map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "field_violations": []any{
			map[string]any{"field": r.field, "description": "must be given"},
		}})
	}
	text, err := json.Marshal(map[string]any{"code": r.code, "message": r.message, "details": details})
	if err != nil {
		panic(err) // maps of texts
	}
	return text
}

func statusSchema() *openapi.Schema {
	detail := object("One of the messages of google.rpc: ErrorInfo with a stable `reason`, or BadRequest with `field_violations`.",
		property{"@type", text("Which message it is.")},
		property{"reason", text("Stable, like `ETAG_MISMATCH`; of an ErrorInfo.")},
		property{"domain", text("`logos`; of an ErrorInfo.")},
		property{"field_violations", &openapi.Schema{
			Description: "Which fields are wrong; of a BadRequest.", Type: openapi.Types{"array"},
			Items: object("", property{"field", text("Its path, like `project.name`.")}, property{"description", text("What would be right.")}),
		}},
	)
	detail.Required = []string{"@type"}
	s := object("An error: google.rpc.Status.",
		property{"code", &openapi.Schema{Description: "gRPC's code, from which the HTTP status follows.", Type: openapi.Types{"integer"}, Format: "int32", Minimum: "1", Maximum: "16"}},
		property{"message", text("For people. It may change.")},
		property{"details", &openapi.Schema{Type: openapi.Types{"array"}, Items: detail}},
	)
	s.Required = []string{"code", "message", "details"}
	return s
}

// A property is one of an object.
type property struct {
	name   string
	schema *openapi.Schema
}

func object(description string, properties ...property) *openapi.Schema {
	s := &openapi.Schema{Description: description, Type: openapi.Types{"object"}}
	for _, p := range properties {
		s.Properties.Set(p.name, p.schema)
	}
	return s
}

func text(description string) *openapi.Schema {
	return &openapi.Schema{Description: description, Type: openapi.Types{"string"}}
}

func component(name string) *openapi.Schema {
	return &openapi.Schema{Ref: "#/components/schemas/" + name}
}
