package dialect

import (
	"encoding/json"

	"github.com/ls1intum/edutelligence/logos"
)

// Status returns the HTTP status for a kind of error.
func Status(kind logos.Kind) int {
	switch kind {
	case logos.Invalid:
		return 400
	case logos.Unauthenticated:
		return 401
	case logos.PaymentRequired:
		return 402
	case logos.Denied:
		return 403
	case logos.NotFound:
		return 404
	case logos.Exists, logos.Conflict:
		return 409
	case logos.Exhausted:
		return 429
	case logos.TooLarge:
		return 413
	case logos.Unavailable:
		return 503
	case logos.Unsupported:
		return 501
	}
	return 500
}

// openAITypes and anthropicTypes hold the error types that each API's clients know.
var (
	openAITypes = map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 402: "insufficient_quota", 403: "permission_error", 404: "invalid_request_error",
		413: "invalid_request_error", 429: "rate_limit_error", 501: "invalid_request_error",
	}
	anthropicTypes = map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
		413: "request_too_large", 429: "rate_limit_error", 501: "invalid_request_error", 503: "overloaded_error",
	}
)

// ErrorBody writes an error in the shape that callers of the API expect: Anthropic's for messages,
// OpenAI's for all others. Both carry the stable code and the request id.
func ErrorBody(api logos.API, e *logos.Error, requestID logos.CallID) []byte {
	status := Status(e.Kind)
	types, fallback := openAITypes, "server_error"
	if api == logos.APIMessages {
		types, fallback = anthropicTypes, "api_error"
	}
	kind := types[status]
	if kind == "" {
		kind = fallback
	}
	var body any
	if api == logos.APIMessages {
		body = map[string]any{"type": "error", "request_id": requestID, "error": map[string]any{"type": kind, "message": e.Message, "code": e.Code}}
	} else {
		body = map[string]any{"error": map[string]any{"message": e.Message, "type": kind, "param": nil, "code": e.Code, "request_id": requestID}}
	}
	out, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings always marshal
	}
	return out
}
