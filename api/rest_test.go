package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
)

// rest makes a call of the admin API with the root key.
func (g *gateway) rest(method, path, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	g.t.Helper()
	r := request(method, path, body)
	r.Header.Set("Authorization", "Bearer "+g.root)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	return w
}

// A restError is what a google.rpc.Status says.
type restError struct {
	Message string
	Details []struct {
		Reason          string
		FieldViolations []struct{ Field, Description string } `json:"field_violations"`
	}
}

// refused checks that an answer refuses, for a reason, one field; empty: none.
func refused(t *testing.T, w *httptest.ResponseRecorder, status int, reason, field string) {
	t.Helper()
	var e restError
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("the answer is %s %q", w.Header().Get("Content-Type"), w.Body)
	}
	gotReason, gotField := "", ""
	for _, d := range e.Details {
		gotReason += d.Reason
		for _, v := range d.FieldViolations {
			gotField += v.Field
			if v.Description == "" || !strings.Contains(e.Message, v.Description) {
				t.Errorf("the message %q does not say %q", e.Message, v.Description)
			}
		}
	}
	if w.Code != status || gotReason != reason || gotField != field {
		t.Errorf("the answer is %d %s of %q, want %d %s of %q: %s", w.Code, gotReason, gotField, status, reason, field, e.Message)
	}
}

func TestRefusesWrongParameters(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	for path, field := range map[string]string{
		"/admin/v1/projects?pagesize=1": "query", "/admin/v1/projects?page_size=1&x=": "query", "/admin/v1/projects/1?show_deleted=true": "query", "/admin/v1/whoami?a[b]=1": "query",
		"/admin/v1/projects?filter=%zz": "query", "/admin/v1/projects?filter=a;b=c": "query",
		"/admin/v1/projects?page_size=": "page_size", "/admin/v1/projects?page_size=1.0": "page_size", "/admin/v1/projects?page_size=0x1": "page_size",
		"/admin/v1/projects?page_size=007": "page_size", "/admin/v1/projects?page_size=+1": "page_size", "/admin/v1/projects?page_size=4294967296": "page_size",
		"/admin/v1/projects?page_size=1&page_size=1": "page_size", "/admin/v1/projects?page_size=-1": "page_size", "/admin/v1/projects?page_size=1001": "page_size",
		"/admin/v1/projects?show_deleted=": "show_deleted", "/admin/v1/projects?show_deleted=1": "show_deleted", "/admin/v1/projects?show_deleted=TRUE": "show_deleted",
		"/admin/v1/projects?filter=%ff": "filter", "/admin/v1/projects?order_by=%00": "order_by", "/admin/v1/projects?pageToken=%c0%80": "page_token",
		"/admin/v1/projects/x": "id", "/admin/v1/projects/1.0": "id", "/admin/v1/projects/0": "id", "/admin/v1/projects/-1": "id", "/admin/v1/projects/9223372036854775808": "id", "/admin/v1/projects/010": "id",
		"/admin/v1/calls/%ff": "path", "/admin/v1/calls/x": "id", "/admin/v1/calls/%00": "id",
	} {
		t.Run(path, func(t *testing.T) { refused(t, g.rest("GET", path, ""), 400, "INVALID_FIELD", field) })
	}
	if w := g.rest("GET", "/admin/v1/projects?pageSize=1&showDeleted=true&filter=", ""); w.Code != 200 {
		t.Errorf("right parameters: %d %s", w.Code, w.Body)
	}
}

func TestSaysWhichMethodsAPathHas(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	for call, allow := range map[string]string{
		"PUT /admin/v1/projects": "GET, POST", "POST /admin/v1/projects/1": "DELETE, GET, PATCH", "GET /admin/v1/apiKeys/1:rotate": "POST", "DELETE /admin/v1/apiKeys/1:revoke": "POST",
		"HEAD /admin/v1/whoami": "GET", "OPTIONS /admin/v1/configuration:apply": "POST", "TRACE /admin/v1/settings": "GET, PATCH",
	} {
		method, path, _ := strings.Cut(call, " ")
		w := g.rest(method, path, "")
		refused(t, w, 405, "NO_SUCH_METHOD", "")
		if got := w.Header().Get("Allow"); got != allow {
			t.Errorf("%s: Allow is %q, want %q", call, got, allow)
		}
	}
	for _, path := range []string{"/admin/v1/", "/admin/v1/x", "/admin/v1/projects/", "/admin/v1/projects/1/2", "/admin/v1//projects", "/admin/v1/projects/1:rotate", "/admin/v1/projects:x", "/admin/v1/../projects"} {
		t.Run(path, func(t *testing.T) { refused(t, g.rest("GET", path, ""), 404, "NO_SUCH_PATH", "") })
	}
	// A form can be sent from any page of a browser: it must not stand for another method.
	w := g.rest("POST", "/admin/v1/projects/1", "", func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-HTTP-Method-Override", "DELETE")
	})
	refused(t, w, 405, "NO_SUCH_METHOD", "")
}

func TestRefusesWrongBodies(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	for body, want := range map[string]struct{ reason, field string }{
		"": {"INVALID_FIELD", "body"}, "{": {"INVALID_BODY", "body"}, "[]": {"INVALID_BODY", "body"}, `"x"`: {"INVALID_BODY", "body"}, "null": {"INVALID_BODY", "body"},
		`{"nam":"x"}`: {"INVALID_BODY", "body"}, `{"name":5}`: {"INVALID_BODY", "body"}, `{"name":"x","name":"y"}`: {"INVALID_BODY", "body"}, `{"name":"\ud800"}`: {"INVALID_BODY", "body"},
		`{"name":"x","team_id":1.5}`: {"INVALID_BODY", "body"}, `{"name":"x","team_id":1e30}`: {"INVALID_BODY", "body"}, strings.Repeat(`{"labels":`, 20_000): {"INVALID_BODY", "body"},
		`{"name":"x","labels":{"a":"\u0000"}}`: {"INVALID_FIELD", "project.labels"}, `{"team":"a\u0000","name":"x"}`: {"INVALID_FIELD", "project.team"},
		`{}`: {"INVALID_FIELD", "project.name"}, `{"name":null}`: {"INVALID_FIELD", "project.name"},
	} {
		t.Run(body[:min(len(body), 40)], func(t *testing.T) {
			refused(t, g.rest("POST", "/admin/v1/projects", body), 400, want.reason, want.field)
		})
	}
	// Without a length, too.
	chunked := func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), -1 }
	refused(t, g.rest("PATCH", "/admin/v1/projects/1?update_mask=name", "", chunked), 400, "INVALID_FIELD", "body")
	long := func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(io.LimitReader(endless{}, 10<<20)), -1
	}
	refused(t, g.rest("POST", "/admin/v1/projects", "", long), 400, "INVALID_BODY", "body")
	if w := g.rest("POST", "/admin/v1/apiKeys/1:rotate", ""); w.Code != 200 {
		t.Errorf("an action without a body: %d %s", w.Code, w.Body)
	}
}

// endless is JSON that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '['
	}
	return len(p), nil
}

func TestTakesBackWhatItAnswered(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	answer := func(w *httptest.ResponseRecorder) object {
		t.Helper()
		out := object{}
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return out
	}
	made := answer(g.rest("POST", "/admin/v1/projects", `{"name":"a","labels":{"x":"1"}}`))
	made["name"] = "b"
	changed := answer(g.rest("PATCH", "/admin/v1/projects/2", encode(t, made)))
	if changed["name"] != "b" || changed["etag"] == made["etag"] {
		t.Errorf("sent back with another name, it is %v", changed)
	}
	refused(t, g.rest("PATCH", "/admin/v1/projects/2", encode(t, made)), 409, "ETAG_MISMATCH", "")
	// Names of what the gateway sets are no mistake in a mask; others are.
	if again := answer(g.rest("PATCH", "/admin/v1/projects/2?update_mask=id,uid,etag,name", `{"name":"c","labels":{"y":"2"}}`)); again["name"] != "c" || encode(t, again["labels"]) != encode(t, made["labels"]) {
		t.Errorf("with a mask, it is %v", again)
	}
	refused(t, g.rest("PATCH", "/admin/v1/projects/2?update_mask=nam", `{"name":"c"}`), 400, "INVALID_FIELD", "update_mask")
	// What a mask does not name is not changed, and still must be right.
	refused(t, g.rest("PATCH", "/admin/v1/projects/2?update_mask=name", `{"name":"d","labels":{"":""}}`), 400, "INVALID_FIELD", `labels[""]`)
	if key := answer(g.rest("POST", "/admin/v1/apiKeys", `{"project":"default"}`)); key["secret"] == nil {
		t.Error("the answer that makes a key does not show it")
	}
	for _, key := range answer(g.rest("GET", "/admin/v1/apiKeys", ""))["api_keys"].([]any) {
		if _, shown := key.(object)["secret"]; shown {
			t.Errorf("a list shows a secret: %v", key)
		}
	}
}

func TestServesEveryOperationOfItsDocument(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	w := g.rest("GET", "/openapi.json", "")
	var d openapi.Document
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 {
		t.Fatalf("%d %v", w.Code, err)
	}
	for path, methods := range d.Paths.All() {
		for verb, o := range methods.All() {
			id := "1"
			if o.OperationID == "GetCall" {
				id = "4c3648d3-45cf-4a39-9983-4ec0041b40d3"
			}
			w := g.rest(strings.ToUpper(verb), strings.ReplaceAll(path, "{id}", id), "{}", func(r *http.Request) { r.Header.Del("Authorization") })
			if o.Security != nil {
				refused(t, w, 400, "INVALID_FIELD", "token")
				continue
			}
			refused(t, w, 401, "INVALID_API_KEY", "")
			if got := w.Header().Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("%s %s: WWW-Authenticate is %q", verb, path, got)
			}
		}
	}
	if w := g.rest("GET", "/docs", ""); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Errorf("the page: %d %v", w.Code, w.Header())
	}
}
