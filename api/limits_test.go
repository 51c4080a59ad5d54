package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// wrong returns JSON that a field must not have, by what would be right.
func wrong(f protoreflect.FieldDescriptor) []string {
	long := `"` + strings.Repeat("x", 10_000) + `"`
	switch {
	case f.IsMap():
		many := make(map[string]string)
		for i := range 65 {
			many[fmt.Sprint("a", i)] = "x"
		}
		encoded, _ := json.Marshal(many)
		return []string{`5`, `"x"`, `[]`, `true`, `{"a":5}`, `{"a":{}}`, `{"a":["x"]}`, `{"1":"x"}`, `{"":"x"}`, `{"a b":"x"}`, `{"a":"\u0000"}`, `{"a\u0000":"x"}`, `{"a":` + long + `}`, `{"a":"x","a":"y"}`, string(encoded), `{"a":"\ud800"}`}
	case f.IsList():
		elements := []string{`5`, `{"a":1}`, `[[]]`, `true`, `"x"`, `{}`, `[5,5]`, `[null]`, `[true]`}
		if f.Message() == nil {
			elements = append(elements, `[{}]`, `["\u0000"]`, `[`+long+`]`, `[""]`, `["x\u0000y"]`, `["no such thing"]`, `["tools","tools"]`)
		} else {
			elements = append(elements, `["x"]`, `[{"nothing":1}]`, `[{}]`)
		}
		return elements
	}
	switch f.Kind() {
	case protoreflect.StringKind:
		return []string{`5`, `-1.5e300`, `true`, `{}`, `[]`, `["x"]`, `{"a":"b"}`, `"a\u0000b"`, `"\u0000"`, long, `"\ud800"`}
	case protoreflect.BoolKind:
		return []string{`"yes"`, `1`, `0`, `"true"`, `[]`, `{}`}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		return []string{`"x"`, `1.5`, `1e30`, `-1`, `"-1"`, `true`, `[]`, `{}`, `"9223372036854775808"`, `9223372036854775807`, `""`, `" 1"`, `"0x10"`, `"1e400"`}
	case protoreflect.DoubleKind:
		return []string{`"x"`, `5`, `-1`, `1e400`, `"NaN"`, `"Infinity"`, `"-Infinity"`, `1.0000001`, `true`, `[]`, `{}`}
	}
	switch f.Message().FullName() {
	case "google.protobuf.Timestamp":
		return []string{`5`, `"x"`, `"2026-01-01"`, `"99999-01-01T00:00:00Z"`, `"2001-01-01T00:00:00Z"`, `{}`, `[]`, `true`, `""`, `"2026-13-01T00:00:00Z"`}
	case "google.protobuf.Duration":
		return []string{`5`, `"x"`, `"5"`, `"-1s"`, `"1s"`, `"3600.5s"`, `"999999999999999s"`, `"1h"`, `{}`, `[]`, `true`, `""`}
	}
	return []string{`5`, `"x"`, `[]`, `true`, `{"nothing":1}`, `{"apis":5}`, `{"apis":["x"]}`, `{"models":["none"]}`, `{"source_cidrs":["x"]}`, `{"source_cidrs":["10.0.0.0/33"]}`, `{"apis":["chat","chat"]}`}
}

// TestWrongInputIsRefusedByName gives every field of every resource values that it must not have.
func TestWrongInputIsRefusedByName(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	all := example(g)
	methods := methodsOf(t)
	before := scalar[int64](t, g.conn(), "select revision from config_revision")
	for kind, collection := range collections {
		create, ok := methods["Create"+kind]
		if !ok {
			continue
		}
		resource := create.input.Descriptor().Fields().ByName(protoreflect.Name(snake(kind)))
		good := map[string]object{
			"Team": {"name": "n"}, "Project": {"name": "n"}, "Member": {"email": "n@example.org", "role": "viewer"}, "Provider": {"name": "n", "base_url": "https://n.example"},
			"Credential": {"name": "n", "provider": "x"}, "Model": {"name": "n"}, "Deployment": {"name": "n", "model": "x", "provider": "x"}, "Price": {"name": "n", "provider": "x", "meter": "input", "amount": "1", "currency": "EUR"}, "AccessProfile": {"name": "n", "project": "x"}, "ApiKey": {"name": "n", "project": "x"},
			"Budget": {"name": "n", "unit": "requests", "amount": "1"},
			"Policy": {"name": "n", "level": "project", "project": "x"},
		}[kind]
		for i := range resource.Message().Fields().Len() {
			f := resource.Message().Fields().Get(i)
			name := string(f.Name())
			if slices.Contains([]string{"id", "uid", "prefix", "last_four", "state", "etag", "version"}, name) {
				continue
			}
			readOnly := strings.HasSuffix(name, "_time") && name != "expire_time" || strings.HasPrefix(name, "valid_")
			for _, value := range wrong(f) {
				if readOnly && strings.Contains(value, "2001-") {
					continue // well-formed, and ignored
				}
				body := maps.Clone(good)
				body[name] = json.RawMessage(value)
				for _, c := range []struct {
					method, url string
					body        object
				}{{"POST", "/admin/v1/" + collection, body}, {"PATCH", at(collection, all[collection]), object{name: json.RawMessage(value)}}} {
					status, answer := root.do(c.method, c.url, raw(c.body))
					if status < 400 || status > 409 || !names(answer, snake(kind)+"."+name) && !strings.Contains(value, `"no such thing"`) {
						t.Errorf("%s %s with %s %.60s answers %d %v %v", c.method, collection, name, value, status, fieldsIn(answer), answer["message"])
					}
					if len(fmt.Sprint(answer)) > 2_000 {
						t.Errorf("%s %s with %s %.60s answers %d bytes", c.method, collection, name, value, len(fmt.Sprint(answer)))
					}
				}
			}
		}
	}
	if after := scalar[int64](t, g.conn(), "select revision from config_revision"); after != before {
		t.Errorf("wrong input leads from revision %d to %d", before, after)
	}
}

// raw writes an object whose values may be JSON that Go would not write.
func raw(o object) string {
	var parts []string
	for name, v := range o {
		text, ok := v.(json.RawMessage)
		if !ok {
			text, _ = json.Marshal(v)
		}
		parts = append(parts, fmt.Sprintf("%q:%s", name, text))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// names says whether an error is about a field, or about a part of it.
func names(answer object, field string) bool {
	for f := range fieldsIn(answer) {
		if f == field || strings.HasPrefix(f, field) && strings.ContainsAny(f[len(field):len(field)+1], ".[") {
			return true
		}
	}
	return false
}

func TestWrongRequestsAreRefusedByName(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.setup()
	root := g.as(g.root)
	x := example(g)["projects"]
	key := root.list("apiKeys", "")[0]
	for _, c := range []struct {
		method, path, body string
		status             int
		field              string
	}{
		{"GET", "projects/x", "", 400, "id"}, {"GET", "projects/0", "", 400, "id"}, {"GET", "projects/-1", "", 400, "id"}, {"GET", "projects/1.5", "", 400, "id"},
		{"GET", "projects/99999999999999999999", "", 400, "id"}, {"GET", "projects/9223372036854775807", "", 404, ""}, {"GET", "projects/%00", "", 400, "id"}, {"GET", "projects/1%2F2", "", 404, ""},
		{"GET", "calls/x", "", 400, "id"}, {"GET", "calls/%FF", "", 400, "id"}, {"GET", "calls/" + callID + "%00", "", 400, "id"},
		{"GET", "projects?page_size=x", "", 400, "page_size"}, {"GET", "projects?page_size=-1", "", 400, "page_size"}, {"GET", "projects?page_size=1001", "", 400, "page_size"},
		{"GET", "projects?page_size=99999999999", "", 400, "page_size"}, {"GET", "projects?page_size=1&page_size=2", "", 400, "page_size"}, {"GET", "projects?pageSize=5", "", 200, ""},
		{"GET", "projects?page_token=x", "", 400, "page_token"}, {"GET", "projects?page_token=" + strings.Repeat("A", 5000), "", 400, "page_token"}, {"GET", "projects?page_token=%00", "", 400, "page_token"},
		{"GET", "projects?filter=x", "", 400, "filter"}, {"GET", "projects?filter=%FF", "", 400, "filter"}, {"GET", "projects?filter=%00", "", 400, "filter"}, {"GET", "projects?filter=" + strings.Repeat("(", 5000), "", 400, "filter"},
		{"GET", "projects?filter=name%20=%20%22%00%22", "", 400, "filter"}, {"GET", "projects?filter=" + strings.Repeat("a", 5000), "", 400, "filter"},
		{"GET", "projects?order_by=x", "", 400, "order_by"}, {"GET", "projects?order_by=name;", "", 400, ""}, {"GET", "projects?order_by=name%3B", "", 400, "order_by"}, {"GET", "projects?order_by=labels", "", 400, "order_by"},
		{"GET", "projects?order_by=a,b,c,d", "", 400, "order_by"}, {"GET", "projects?order_by=name%20up", "", 400, "order_by"}, {"GET", "projects?order_by=" + strings.Repeat("a", 300), "", 400, "order_by"},
		{"GET", "projects?show_deleted=maybe", "", 400, "show_deleted"}, {"GET", "projects?fliter=x", "", 400, "fliter"}, {"GET", "projects?%FF=x", "", 400, ""}, {"GET", "projects?a%zz", "", 400, ""},
		{"GET", "whoami?x=1", "", 400, "x"}, {"GET", "auditEvents?order_by=id", "", 400, "order_by"}, {"GET", "calls?show_deleted=true", "", 400, "show_deleted"},
		{"DELETE", "projects/1?etag=" + strings.Repeat("1", 100), "", 400, "etag"}, {"DELETE", "projects/1?tag=1", "", 400, "tag"},
		{"POST", "projects?request_id=x", `{"name":"n"}`, 400, "request_id"}, {"POST", "projects?name=n", `{"name":"n"}`, 400, "name"},
		{"PATCH", "projects/x", `{"name":"n"}`, 400, "project.id"}, {"PATCH", "projects/0", `{"name":"n"}`, 400, "project.id"}, {"PATCH", "projects/999", `{"name":"n"}`, 404, ""},
		{"PATCH", "projects/" + x["id"].(string) + "?update_mask=nothing", `{"name":"n"}`, 400, "update_mask"},
		{"POST", "apiKeys/" + key["id"].(string) + ":rotate", `{"overlap":"-1s"}`, 400, "overlap"}, {"POST", "apiKeys/1:rotate", `{"overlap":"9999999999s"}`, 400, "overlap"}, {"POST", "apiKeys/1:rotate", `{"overlap":5}`, 400, "overlap"},
		{"POST", "apiKeys/1:rotate?overlap=5s", `{}`, 400, "overlap"}, {"POST", "apiKeys/x:revoke", `{}`, 400, "id"}, {"POST", "apiKeys:claim", `{"token":"short"}`, 400, "token"}, {"POST", "apiKeys:claim", `{}`, 400, "token"},
		{"POST", "apiKeys:batchCreate", `{}`, 400, "template"}, {"POST", "apiKeys:batchCreate", `{"template":{"project":"x"}}`, 400, "csv"}, {"POST", "configuration:apply", `{}`, 400, "configuration"},
		{"POST", "endUsers:erase", `{}`, 400, "project_id"}, {"POST", "sourceAddresses:erase", `{"address":"x"}`, 400, "address"}, {"POST", "providers/0:test", `{}`, 400, "id"},
		{"PATCH", "settings", `{"claim_lifetime":"1s"}`, 400, "settings.claim_lifetime"}, {"PATCH", "settings", `{"egress_hosts":["a b"]}`, 400, "settings.egress_hosts[0]"}, {"PATCH", "settings", `{}`, 400, "update_mask"},
		{"POST", "projects", ``, 400, "project"}, {"POST", "projects", `{}`, 400, "project.name"}, {"POST", "projects", `[]`, 400, ""}, {"POST", "projects", `null`, 400, ""}, {"POST", "projects", `{"name":"n"`, 400, ""},
		{"POST", "projects", `{"name":"n"} x`, 400, ""}, {"POST", "projects", "\xff", 400, ""}, {"POST", "projects", `{"name":"n","nme":"n"}`, 400, "project.nme"}, {"POST", "projects", `{"name":"n","name":"m"}`, 400, "project.name"},
		{"POST", "projects", `{"team_id":"1","teamId":"1","name":"n"}`, 400, "project.teamId"}, {"POST", "projects", `{"name":"n","__proto__":{}}`, 400, "project.__proto__"},
		{"GET", "nothing", "", 404, ""}, {"GET", "", "", 404, ""}, {"GET", "projects/1/2", "", 404, ""}, {"PUT", "projects/1", `{}`, 405, ""}, {"POST", "projects/1", `{}`, 405, ""}, {"PATCH", "projects", `{}`, 405, ""}, {"DELETE", "projects", "", 405, ""},
		{"OPTIONS", "projects", "", 405, ""}, {"BREW", "projects", "", 405, ""}, {"POST", "projects:nothing", `{}`, 404, ""},
	} {
		status, answer := root.do(c.method, "/admin/v1/"+c.path, c.body)
		what := fmt.Sprintf("%s %.80s %.60s", c.method, c.path, c.body)
		refused(t, what, status, answer, c.status, "", c.field)
		if status != 200 && (fmt.Sprint(answer["message"]) == "" || answer["code"] == nil || reason(answer) == "") {
			t.Errorf("%s answers %v, which is no google.rpc.Status with a reason", what, answer)
		}
	}
}

// nested is a body of nested JSON without a length.
type nested struct{ left int64 }

func (e *nested) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, strings.Repeat(`{"labels":`, len(p)/10+1))
	e.left -= int64(n)
	return n, nil
}

// A body above the limit costs no more than reading it as far as the limit. Not in parallel: it counts what
// is allocated.
func TestTooLargeRequestsAreRefusedCheaply(t *testing.T) {
	g := newGateway(t)
	g.setup()
	address := g.listen()
	const size = 10 << 20
	deep := strings.Repeat("[", size)
	for what, c := range map[string]struct {
		path  string
		body  io.Reader
		most  uint64 // bytes allocated
		field string
	}{
		"10 MiB with their length":             {"/admin/v1/projects", strings.NewReader(deep), 1 << 20, ""},
		"10 MiB without":                       {"/admin/v1/projects", &nested{size}, 32 << 20, ""},
		"4 MiB of lists":                       {"/admin/v1/projects", strings.NewReader(deep[:4<<20-1]), 64 << 20, ""},
		"4 MiB of lists in a field":            {"/admin/v1/projects", strings.NewReader(`{"name":` + deep[:4<<20-100]), 64 << 20, "project.name"},
		"4 MiB of objects":                     {"/admin/v1/projects", &nested{4<<20 - 100}, 64 << 20, ""},
		"4 MiB of objects, all at once":        {"/admin/v1/configuration:apply", strings.NewReader(`{"configuration":{"teams":[{"labels":` + strings.Repeat(`{"a":`, 800_000)), 64 << 20, ""},
		"a set-up call of 10 MiB":              {"/logosdb/add_model", strings.NewReader(deep), 8 << 20, ""},
		"a set-up call of 10 MiB of no length": {"/logosdb/add_model", &nested{size}, 16 << 20, ""},
		"a set-up call of 1 MiB":               {"/logosdb/add_model", strings.NewReader(deep[:1<<20-1]), 16 << 20, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+address+c.path, c.body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+g.root)
		r.Header.Set("Content-Type", "application/json")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		at := time.Now()
		resp, err := http.DefaultClient.Do(r)
		took := time.Since(at)
		runtime.ReadMemStats(&after)
		if err != nil { // refused before all of it was sent
			t.Logf("%s: %v", what, err)
			continue
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		answer := decode[object](t, string(text))
		if resp.StatusCode != 400 && resp.StatusCode != 413 || err != nil {
			t.Errorf("%s are answered %d %s", what, resp.StatusCode, text)
		}
		if _, ok := fieldsIn(answer)[c.field]; c.field != "" && !ok {
			t.Errorf("%s are refused for %v", what, fieldsIn(answer))
		}
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %s, %d KiB allocated, %d", what, took, allocated>>10, resp.StatusCode)
		if allocated > c.most || took > 5*time.Second {
			t.Errorf("%s take %s and %d KiB, want at most %d KiB", what, took, allocated>>10, c.most>>10)
		}
	}
}
