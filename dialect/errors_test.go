package dialect_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

func TestErrorsHaveTheStatusAndTypeThatClientsKnow(t *testing.T) {
	for _, c := range []struct {
		kind              logos.Kind
		status            int
		openAI, anthropic string
	}{
		{logos.Internal, 500, "server_error", "api_error"},
		{logos.Invalid, 400, "invalid_request_error", "invalid_request_error"},
		{logos.Unauthenticated, 401, "authentication_error", "authentication_error"},
		{logos.Denied, 403, "permission_error", "permission_error"},
		{logos.NotFound, 404, "invalid_request_error", "not_found_error"},
		{logos.Exhausted, 429, "rate_limit_error", "rate_limit_error"},
		{logos.TooLarge, 413, "invalid_request_error", "request_too_large"},
		{logos.Unavailable, 503, "server_error", "overloaded_error"},
		{logos.Unsupported, 501, "invalid_request_error", "invalid_request_error"},
		{logos.Kind(99), 500, "server_error", "api_error"},
	} {
		if got := dialect.Status(c.kind); got != c.status {
			t.Errorf("kind %d has status %d, want %d", c.kind, got, c.status)
		}
		e := logos.Errorf(c.kind, "the_code", "say <this> & \"that\"")
		inOpenAI := map[string]any{"error": map[string]any{
			"message": `say <this> & "that"`, "type": c.openAI, "param": nil, "code": "the_code", "request_id": "id-1",
		}}
		inAnthropic := map[string]any{"type": "error", "request_id": "id-1", "error": map[string]any{
			"message": `say <this> & "that"`, "type": c.anthropic, "code": "the_code",
		}}
		for api, want := range map[logos.API]map[string]any{
			logos.APINone: inOpenAI, logos.APIChat: inOpenAI, logos.APICompletions: inOpenAI, logos.APIResponses: inOpenAI,
			logos.APIEmbeddings: inOpenAI, logos.APIMessages: inAnthropic,
		} {
			var got map[string]any
			if err := json.Unmarshal(dialect.ErrorBody(api, e, "id-1"), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("kind %d of %q differs (-want +got):\n%s", c.kind, api, diff)
			}
		}
	}
}

func TestConflictIs409(t *testing.T) {
	if got := dialect.Status(logos.Exists); got != 409 {
		t.Errorf("a conflict has status %d, want 409", got)
	}
}
