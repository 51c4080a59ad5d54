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

// refuses checks that an answer is an error about a field; empty: about none.
func refuses(t *testing.T, what string, w *httptest.ResponseRecorder, status int, code, field string) {
	t.Helper()
	answer := object{}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		t.Fatalf("%s answers %s %q", what, w.Header().Get("Content-Type"), w.Body)
	}
	refused(t, what, w.Code, answer, status, code, field)
	if n := len(fieldsIn(answer)); (field == "") != (n == 0) {
		t.Errorf("%s is about %v, want %q", what, fieldsIn(answer), field)
	}
}

func TestRefusesWrongParameters(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	for path, field := range map[string]string{
		"/admin/v1/projects?pagesize=1": "pagesize", "/admin/v1/projects?page_size=1&x=": "x", "/admin/v1/projects/1?show_deleted=true": "show_deleted", "/admin/v1/whoami?a[b]=1": "a[b]",
		"/admin/v1/projects?page_size=": "page_size", "/admin/v1/projects?page_size=1.0": "page_size", "/admin/v1/projects?page_size=0x1": "page_size",
		"/admin/v1/projects?page_size=007": "page_size", "/admin/v1/projects?page_size=+1": "page_size", "/admin/v1/projects?page_size=4294967296": "page_size",
		"/admin/v1/projects?page_size=1&page_size=1": "page_size", "/admin/v1/projects?page_size=-1": "page_size", "/admin/v1/projects?page_size=1001": "page_size",
		"/admin/v1/projects?show_deleted=": "show_deleted", "/admin/v1/projects?show_deleted=1": "show_deleted", "/admin/v1/projects?show_deleted=TRUE": "show_deleted",
		"/admin/v1/projects?filter=%ff": "filter", "/admin/v1/projects?order_by=%00": "order_by", "/admin/v1/projects?pageToken=%c0%80": "pageToken",
		"/admin/v1/projects/x": "id", "/admin/v1/projects/1.0": "id", "/admin/v1/projects/0": "id", "/admin/v1/projects/-1": "id", "/admin/v1/projects/9223372036854775808": "id", "/admin/v1/projects/010": "id",
		"/admin/v1/calls/%ff": "id", "/admin/v1/calls/x": "id", "/admin/v1/calls/%00": "id",
	} {
		t.Run(path, func(t *testing.T) { refuses(t, path, g.rest("GET", path, ""), 400, "INVALID_FIELD", field) })
	}
	for _, path := range []string{"/admin/v1/projects?filter=%zz", "/admin/v1/projects?filter=a;b=c"} {
		refuses(t, path, g.rest("GET", path, ""), 400, "INVALID_QUERY", "")
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
		"HEAD /admin/v1/whoami": "GET", "OPTIONS /admin/v1/configuration:apply": "POST", "TRACE /admin/v1/settings": "GET, PATCH", "PATCH /admin/v1/providers/1:test": "POST",
	} {
		method, path, _ := strings.Cut(call, " ")
		w := g.rest(method, path, "")
		refuses(t, call, w, 405, "METHOD_NOT_ALLOWED", "")
		if got := w.Header().Get("Allow"); got != allow {
			t.Errorf("%s: Allow is %q, want %q", call, got, allow)
		}
	}
	for _, path := range []string{"/admin/v1/", "/admin/v1/x", "/admin/v1/projects/", "/admin/v1/projects/1/2", "/admin/v1//projects", "/admin/v1/projects/1:rotate", "/admin/v1/projects:x", "/admin/v1/projects/1:", "/admin/v1/apiKeys/1:rotate:", "/admin/v1/../projects"} {
		t.Run(path, func(t *testing.T) { refuses(t, path, g.rest("GET", path, ""), 404, "NOT_FOUND", "") })
	}
	// A form can be sent from any page of a browser: it must not stand for another method.
	w := g.rest("POST", "/admin/v1/projects/1", "", func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-HTTP-Method-Override", "DELETE")
	})
	refuses(t, "a form", w, 405, "METHOD_NOT_ALLOWED", "")
}

func TestRefusesNoBodyAndTooLargeOnes(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	refuses(t, "no body", g.rest("POST", "/admin/v1/projects", ""), 400, "INVALID_FIELD", "project")
	// With a mask, nothing given would clear what it names; a body may come without a length.
	chunked := func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("")), -1 }
	refuses(t, "no body", g.rest("PATCH", "/admin/v1/projects/1?update_mask=name", "", chunked), 400, "INVALID_FIELD", "project")
	long := func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(&nested{10 << 20}), -1 }
	refuses(t, "10 MiB", g.rest("POST", "/admin/v1/projects", "", long), 400, "REQUEST_TOO_LARGE", "")
	if w := g.rest("POST", "/admin/v1/apiKeys/1:rotate", ""); w.Code != 200 {
		t.Errorf("an action without a body: %d %s", w.Code, w.Body)
	}
}

func TestRefusesWrongFieldsThatAMaskLeavesOut(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	refuses(t, "a wrong label", g.rest("PATCH", "/admin/v1/projects/1?update_mask=name", `{"name":"d","labels":{"":""}}`), 400, "INVALID_FIELD", `project.labels[""]`)
	refuses(t, "an empty mask", g.rest("PATCH", "/admin/v1/projects/1?update_mask=", `{"name":"d"}`), 400, "INVALID_FIELD", "update_mask")
	refuses(t, "a short duration", g.rest("PATCH", "/admin/v1/settings?update_mask=egress_hosts", `{"claim_lifetime":"1s"}`), 400, "INVALID_FIELD", "settings.claim_lifetime")
}

func TestShowsSecretsOnlyWhereTheyAreMade(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	if key := root.make("apiKeys", object{"project": "default"}); key["secret"] == nil {
		t.Error("the answer that makes a key does not show it")
	}
	for _, key := range root.list("apiKeys", "") {
		if _, there := key["secret"]; there {
			t.Errorf("a list has the member secret: %v", key)
		}
	}
	if made := root.make("credentials", object{"provider": "first", "secret": "sk-1"}); made["secret"] != nil {
		t.Errorf("a credential shows its secret: %v", made)
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
				refuses(t, o.OperationID, w, 400, "INVALID_FIELD", "token")
				continue
			}
			refuses(t, o.OperationID, w, 401, "INVALID_API_KEY", "")
			if got := w.Header().Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("%s: WWW-Authenticate is %q", o.OperationID, got)
			}
		}
	}
	if w := g.rest("GET", "/docs", ""); w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		t.Errorf("the page: %d %v", w.Code, w.Header())
	}
}
