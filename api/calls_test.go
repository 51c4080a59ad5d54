package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
)

const callID = "4c3648d3-45cf-4a39-9983-4ec0041b40d3"

func (g *gateway) admin(path, key string) (status int, answer object) {
	g.t.Helper()
	r := request("GET", path, "")
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	return g.do(g.handler, r)
}

// reason returns the stable code in an error of the admin API.
func reason(answer object) string {
	details, _ := answer["details"].([]any)
	if len(details) == 0 {
		return ""
	}
	info, _ := details[0].(object)
	code, _ := info["reason"].(string)
	return code
}

func TestShowsACall(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	start := time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)
	target := logos.DecisionTarget{Deployment: 1, Model: 2, Provider: 3, Credential: 4, Cluster: "c"}
	c := &logos.Call{
		ID: callID,
		Decision: logos.Decision{Start: start.UnixMicro(), Revision: 5, API: logos.APIChat, Stream: true, Model: "gpt", Team: 6, Project: 7, APIKey: 8, Profile: 9, EndUser: "u", Session: "s",
			Targets: []logos.DecisionTarget{target}, Explanation: logos.Explanation{Candidates: []logos.DecisionCandidate{{Deployment: 1}, {Deployment: 2, Excluded: "not_active"}}}},
		Method: "POST", Status: 200, End: logos.EndTruncated, Duration: 1500 * time.Millisecond, FirstByte: 250 * time.Millisecond, RequestBytes: 10, AnswerBytes: 11, ServiceTier: "flex",
		Error: logos.CallError{Code: "code", Type: "type", Message: "message"},
		Attempts: []logos.Attempt{{Number: 1, Target: target, Start: start, Duration: time.Second, Status: 200, End: logos.EndTruncated, ProviderRequestID: "r", Detail: "UC",
			Meters: []logos.MeterReading{{Meter: logos.MeterOutput, Quantity: 1 << 53, Estimated: true}}}},
	}
	price := &logos.Price{ID: 1, Version: 9, Provider: 3, Meter: logos.MeterOutput, Amount: decimal.RequireFromString("2.5"), Unit: 1_000_000, Currency: "EUR"}
	billing.NewBook([]*logos.Price{price}, nil).RateCall(c)
	if err := g.store.RecordCalls(t.Context(), "gateway-1", logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
		t.Fatal(err)
	}
	status, got := g.admin("/admin/v1/calls/"+callID, g.root)
	delete(got, "decision") // see TestACallShowsItsDecision
	want := object{
		"id": callID, "gateway": "gateway-1", "start": "2026-11-24T12:00:00.123456Z", "end_reason": "truncated", "status": 200.0, "method": "POST", "api": "chat", "model": "gpt", "stream": true,
		"duration": "1.500s", "first_byte": "0.250s", "request_bytes": "10", "answer_bytes": "11", "project_id": "7", "api_key_id": "8", "profile_id": "9", "team_id": "6", "end_user": "u", "session": "s",
		"service_tier": "flex", "error": object{"code": "code", "type": "type", "message": "message"}, "cost": "22517998136.85248 EUR", "revision": "5",
		"candidates": []any{object{"deployment_id": "1", "excluded": ""}, object{"deployment_id": "2", "excluded": "not_active"}},
		"attempts": []any{object{"number": 1.0, "deployment_id": "1", "model_id": "2", "provider_id": "3", "credential_id": "4", "start": "2026-11-24T12:00:00.123456Z", "duration": "1s", "status": 200.0,
			"end_reason": "truncated", "provider_request_id": "r", "detail": "UC", "cost": "22517998136.85248 EUR",
			"meters": []any{object{"meter": "output", "quantity": "9007199254740992", "estimated": true, "cost": "22517998136.85248", "price_version": "9"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" || status != 200 {
		t.Errorf("the call answers %d (-want +got):\n%s", status, diff)
	}
}

func TestShowsCallsToTheRootKeyAlone(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	for _, c := range []struct {
		path, key string
		status    int
		code      string
	}{
		{"/admin/v1/calls/" + callID, "", 401, "INVALID_API_KEY"},
		{"/admin/v1/calls/" + callID, "lg-another", 401, "INVALID_API_KEY"},
		{"/admin/v1/calls/" + callID, "sk-x", 401, "INVALID_API_KEY"},
		{"/admin/v1/calls/" + callID, g.root, 404, "NOT_FOUND"},
		{"/admin/v1/calls/x", g.root, 400, "INVALID_FIELD"},
		{"/admin/v1/calls/" + strings.ReplaceAll(callID, "-", "_"), g.root, 400, "INVALID_FIELD"},
	} {
		status, answer := g.admin(c.path, c.key)
		if status != c.status || reason(answer) != c.code || answer["message"] == "" {
			t.Errorf("%s with the key %.6q answers %d %v, want %d %s", c.path, c.key, status, answer, c.status, c.code)
		}
	}
	if status, _ := g.admin("/admin/v1/nothing", g.root); status != 404 {
		t.Errorf("an unknown path answers %d", status)
	}
	r := request(http.MethodGet, "/admin/v1/calls/"+callID, "")
	r.Header.Set("logos-key", g.root)
	if status, _ := g.do(g.handler, r); status != 401 {
		t.Errorf("a root key in another header answers %d", status)
	}
}
