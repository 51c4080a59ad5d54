package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
)

const secret = "sk-canary-5a1ec7ed"

// A field of a set-up call, by what it may hold.
type kind int

const (
	name   kind = iota
	url         // of a provider
	key         // a provider's; may be empty
	header      // of a provider's key
	format      // of a provider's key
	path        // may be empty
	id          // of something that must be there
	ownKey      // that must be there, of a provider
)

// calls holds every call with its fields and good values; ids are those of content.
var calls = map[string]map[string]struct {
	kind kind
	good any
}{
	"add_provider":             {"provider_name": {name, "new"}, "base_url": {url, "https://new.example"}, "api_key": {key, "sk-new"}, "auth_name": {header, "authorization"}, "auth_format": {format, "Bearer {}"}},
	"add_model":                {"name": {name, "new"}, "endpoint": {path, "chat/completions"}},
	"add_profile":              {"profile_name": {name, "new"}, "process_id": {id, 1}},
	"get_api_id":               {"api_key": {ownKey, secret}},
	"connect_process_provider": {"profile_id": {id, 1}, "api_id": {id, 1}},
	"connect_process_model":    {"profile_id": {id, 1}, "model_id": {id, 1}},
	"connect_model_provider":   {"model_id": {id, 1}, "provider_id": {id, 2}},
	"connect_model_api":        {"model_id": {id, 1}, "api_id": {id, 1}},
}

// content sets up and adds one of everything.
func content(t *testing.T) *gateway {
	t.Helper()
	g := newGateway(t)
	g.setup()
	g.set("add_provider", object{"provider_name": "p", "base_url": "https://p.example", "api_key": secret, "auth_name": "authorization", "auth_format": "Bearer {}"})
	g.set("add_model", object{"name": "m", "endpoint": ""})
	g.set("connect_model_provider", object{"model_id": 1, "provider_id": 2})
	return g
}

// bad returns the values that a field must not have, and how each is answered.
func bad(k kind) map[any]int {
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	out := make(map[any]int)
	add := func(status int, values ...string) {
		for _, v := range values {
			out[string(raw(v))] = status
		}
	}
	long := func(n int) string { return `"` + strings.Repeat("x", n) + `"` }
	add(422, `{}`, `[]`, `true`, `[1]`)
	switch k {
	case name:
		add(422, `1`, `null`, `""`, `" "`, `" x"`, `"x\n"`, `"a\u0000b"`, `"a\u001bb"`, `"a\u007fb"`, `"\ud800"`, long(257))
	case url:
		add(422, `1`, `null`, `""`, `"x"`, `"p.example"`, `"ftp://p.example"`, `"javascript:x"`, `"http://"`, `"http:///v1"`, `"//p.example"`, `"http://u:p@p.example"`, `"http://u@p.example"`,
			`"http://p.example:0"`, `"http://p.example:65536"`, `"http://p.example:x"`, `"http://p.example:-1"`, `"http://p.example/#x"`, `"http://p.example/\n"`, `"http://p.example/\u0000"`, `"http://p example"`,
			`"http://pé.example"`, `"http://p.example\\@x"`, `"https://p.example/`+strings.Repeat("x", 2048)+`"`)
	case key:
		add(422, `1`, `"lg-a-key-of-logos"`, `"a\nb"`, `"a\u0000b"`, `"é"`, long(8193))
	case ownKey:
		add(422, `1`, `null`, `""`)
		add(404, `"another"`, `"a\u0000b"`, long(8193))
	case header:
		add(422, `1`, `null`, `""`, `"a b"`, `"a:b"`, `"a\nb"`, `"é"`, `":authority"`, long(129), `"host"`, `"Connection"`, `"content-length"`, `"content-type"`, `"transfer-encoding"`, `"TE"`, `"upgrade"`,
			`"accept-encoding"`, `"x-request-id"`, `"logos-key"`, `"logos_key"`, `"proxy"`, `"x-logos-user"`, `"X-Envoy-Max-Retries"`, `"x-forwarded-for"`)
	case format:
		add(422, `1`, `null`, `""`, `"Bearer"`, `"{} {}"`, `"{}\n"`, `"é{}"`, `"{}`+strings.Repeat("x", 256)+`"`)
	case path:
		add(422, `1`, `"../x"`, `"a/../b"`, `"./a"`, `"a b"`, `"a\nb"`, `"a\\b"`, `"a#b"`, `"https://p.example/x"`, `"é"`, long(2049))
	case id:
		add(422, `null`, `0`, `-1`, `1.5`, `1e0`, `"x"`, `""`, `" 1"`, `9223372036854775808`, `18446744073709551617`)
		add(404, `999`, `"999"`, `9223372036854775807`)
	}
	return out
}

func TestRefusesEachFieldThatIsMissingOrWrong(t *testing.T) {
	t.Parallel()
	g := content(t)
	conn := g.conn()
	before := scalar[int64](t, conn, "select revision from config_revision")
	for call, fields := range calls {
		good := make(object)
		for name, f := range fields {
			good[name] = f.good
		}
		for name, f := range fields {
			without := maps.Clone(good)
			delete(without, name)
			status, answer := g.try(call, without)
			if text := message(t, answer); status != 422 || !strings.Contains(text, name) {
				t.Errorf("%s without %s answers %d %q", call, name, status, text)
			}
			for value, want := range bad(f.kind) {
				body := maps.Clone(good)
				body[name] = json.RawMessage(value.(string))
				status, answer := g.try(call, body)
				text := message(t, answer)
				if status != want {
					t.Errorf("%s with %s %.60s answers %d %q, want %d", call, name, value, status, text, want)
				}
				if strings.Contains(text, secret) || len(text) > 1000 {
					t.Errorf("%s with %s %.60s answers %q", call, name, value, text)
				}
			}
		}
	}
	if after := scalar[int64](t, conn, "select revision from config_revision"); after != before {
		t.Errorf("bad input leads from revision %d to %d", before, after)
	}
	for call, fields := range calls { // and the good values are good
		good := make(object)
		for name, f := range fields {
			good[name] = f.good
		}
		if status, answer := g.try(call, good); status != 200 {
			t.Errorf("%s answers %d %v", call, status, answer)
		}
	}
}

// An auth_name of spaces is none, and the key that was given would never be sent.
func TestRefusesAHeaderOfSpaces(t *testing.T) {
	t.Parallel()
	g := content(t)
	if status, answer := g.try("add_provider", object{"provider_name": "new", "base_url": "https://new.example", "api_key": "sk-new", "auth_name": " ", "auth_format": "{}"}); status != 422 {
		t.Errorf("it answers %d %v", status, answer)
	}
}

// Beyond ASCII there are control characters too.
func TestRefusesNamesWithControlCharactersOfUnicode(t *testing.T) {
	t.Parallel()
	g := content(t)
	for _, name := range []string{"a\u0085b", "a\u009bb", "a\u2028b", "a\u202eb"} {
		if status, answer := g.try("add_model", object{"name": name, "endpoint": ""}); status != 422 {
			t.Errorf("the name %q answers %d %v", name, status, answer)
		}
	}
}

func TestRefusesBodiesThatAreNoObject(t *testing.T) {
	t.Parallel()
	g := content(t)
	for body, want := range map[string]int{
		"x": 400, "[]": 400, "null": 400, `"x"`: 400, `{"name":"a"`: 400, `{"name":"a"} x`: 400, "\xff": 400,
		`{"x":"` + strings.Repeat("x", 1<<20) + `"}`: 413,
	} {
		status, answer := g.do(g.handler, request("POST", "/logosdb/add_model", body))
		if message(t, answer); status != want {
			t.Errorf("the body %.20q answers %d, want %d", body, status, want)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", ";"} {
		r := request("POST", "/logosdb/add_model", `{"name":"a","endpoint":"","logos_key":"`+g.root+`"}`)
		r.Header.Set("Content-Type", kind)
		if status, _ := g.do(g.handler, r); status != 400 {
			t.Errorf("a body of the type %q answers %d", kind, status)
		}
	}
	r := request("POST", "/logosdb/add_model", `{"name":"a","endpoint":"","logos_key":"`+g.root+`"}`)
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	if status, answer := g.do(g.handler, r); status != 200 {
		t.Errorf("JSON with a charset answers %d %v", status, answer)
	}
	for _, c := range []string{"GET /logosdb/add_model", "PUT /logosdb/add_model", "POST /logosdb/drop_tables", "GET /logosdb/", "GET /logosdb/setup"} {
		method, path, _ := strings.Cut(c, " ")
		if status, answer := g.do(g.handler, request(method, path, "{}")); status != 404 || message(t, answer) == "" {
			t.Errorf("%s answers %d", c, status)
		}
	}
}

func TestAdministersWithTheRootKeyAlone(t *testing.T) {
	t.Parallel()
	g := content(t)
	var member logos.Secret
	if _, err := g.store.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) (err error) {
		member, err = tx.AddAPIKey(ctx, 1, logos.RoleMember, "")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for call, fields := range calls {
		body := make(object)
		for name, f := range fields {
			body[name] = f.good
		}
		for key, want := range map[any]int{"": 401, "lg-another": 401, secret: 401, strings.Repeat("x", 300): 401, 5: 401, string(member): 403} {
			body["logos_key"] = key
			status, answer := g.try(call, body)
			if text := message(t, answer); status != want || strings.Contains(text, fmt.Sprint(key)) && key != "" {
				t.Errorf("%s with the key %.20v answers %d %q, want %d", call, key, status, text, want)
			}
		}
	}
	if status, answer := g.try("get_process_id", object{"logos_key": string(member)}); status != 200 || answer["result"] != 1.0 {
		t.Errorf("get_process_id with a member's key answers %d %v", status, answer)
	}
	if status, _ := g.try("get_process_id", object{"logos_key": "lg-another"}); status != 401 {
		t.Errorf("get_process_id with an unknown key answers %d", status)
	}
}
