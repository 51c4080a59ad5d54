package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ls1intum/edutelligence/logos/api"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// An ear hears every answer of a handler.
type ear struct {
	http.Handler

	mu      sync.Mutex
	answers []heard
}

type heard struct{ request, answer string }

func (e *ear) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	recorded := httptest.NewRecorder()
	e.Handler.ServeHTTP(recorded, r)
	e.mu.Lock()
	e.answers = append(e.answers, heard{r.Method + " " + r.URL.Path, fmt.Sprint(recorded.Header(), recorded.Body)})
	e.mu.Unlock()
	for name, v := range recorded.Header() {
		w.Header()[name] = v
	}
	w.WriteHeader(recorded.Code)
	_, _ = w.Write(recorded.Body.Bytes())
}

// saying returns the requests whose answers hold a text.
func (e *ear) saying(text string) (requests []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.answers {
		if strings.Contains(h.answer, text) {
			requests = append(requests, h.request)
		}
	}
	return requests
}

// TestNoOutputHoldsASecret plants a secret in every field that is for one, and looks for all of them in every
// answer, in the log, and in all that is stored.
func TestNoOutputHoldsASecret(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	writer := zapcore.Lock(zapcore.AddSync(&log))
	g := &gateway{t: t, log: zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), writer, zapcore.DebugLevel))}
	master, password := store.NewMasterKeyText(), "canary-of-the-database-9b1f"
	g.url = withPassword(t, password)
	var err error
	if g.store, err = store.Open(t.Context(), g.url, g.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.store.Close)
	if err := g.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.store.Unlock(t.Context(), pgtest.Key(t, master)); err != nil {
		t.Fatal(err)
	}
	const setupToken = "canary-of-the-setup-4c2e"
	e := &ear{Handler: g.serve(api.SetupToken(setupToken), nil)}
	g.handler = e

	r := request("POST", "/logosdb/setup", `{"provider_name":"first","base_url":"ftp://x"}`)
	r.Header.Set("X-Logos-Setup-Token", setupToken)
	g.do(g.handler, r)
	g.setup()
	root := g.as(g.root)
	digest := sha256.Sum256([]byte("canary-known-by-its-digest-alone"))
	planted := map[string]string{
		"the master key": master, "the database's password": password, "the set-up token": setupToken, "a digest": hex.EncodeToString(digest[:]),
		"a credential": "sk-canary-credential-1a2b", "a credential of a set-up call": "sk-canary-set-up-3c4d", "another credential": "sk-canary-changed-5e6f",
		"a wrong key": "lg-canary-wrong-key-7a8b", "an imported secret": "canary-imported-secret-9c0d", "a declared credential": "sk-canary-declared-1e2f", "a declared key": "canary-declared-key-3a4b",
	}
	// each once, and where a new secret may be shown.
	shown := map[string][]string{g.root: {"POST /logosdb/setup"}}
	make1 := func(what string, resource object) object {
		key := root.make("apiKeys", resource)
		if s, ok := key["secret"].(string); ok && s != "" {
			shown[s] = []string{"POST /admin/v1/apiKeys"}
		}
		return key
	}
	g.set("add_provider", object{"provider_name": "p", "base_url": "https://p.example", "api_key": planted["a credential of a set-up call"], "auth_name": "authorization", "auth_format": "Bearer {}"})
	credential := root.make("credentials", object{"provider": "p", "name": "c", "secret": planted["a credential"]})
	root.patch("credentials", credential, object{"secret": planted["another credential"]})
	key := make1("a key", object{"project": "default", "name": "k"})
	if again := key["secret"].(string); again == "" {
		t.Fatal("a key is made without its secret being shown")
	}
	rotated := root.must("POST", at("apiKeys", key)+":rotate", object{"overlap": "600s"})
	shown[rotated["secret"].(string)] = []string{"POST " + at("apiKeys", key) + ":rotate"}
	make1("an imported key", object{"project": "default", "name": "imported", "secret": planted["an imported secret"]})
	make1("a digest", object{"project": "default", "name": "digest", "secret_sha256": strings.ToUpper(planted["a digest"])})
	batch := root.must("POST", "/admin/v1/apiKeys:batchCreate", object{"template": object{"project": "default", "name": "batch-{n}"}, "csv": "n\n1\n2\n"})
	for i, c := range items(batch) {
		path := c.(object)["path"].(string)
		shown[strings.TrimPrefix(path, "/claim/")] = []string{"POST /admin/v1/apiKeys:batchCreate"}
		if i == 0 {
			claimed := g.as("").must("POST", "/admin/v1/apiKeys:claim", object{"token": strings.TrimPrefix(path, "/claim/")})
			shown[claimed["secret"].(string)] = []string{"POST /admin/v1/apiKeys:claim"}
		}
	}
	repeated := object{"project": "default", "name": "repeated"}
	const id = "?request_id=0b0e7a3e-6d0f-4d5c-9c57-4f6f5f0e9a01"
	first := root.must("POST", "/admin/v1/apiKeys"+id, repeated)
	shown[first["secret"].(string)] = []string{"POST /admin/v1/apiKeys"}
	if again := root.must("POST", "/admin/v1/apiKeys"+id, repeated); again["secret"] != nil || again["id"] != first["id"] {
		t.Errorf("the repeated request answers %v", again)
	}
	declared := object{"credentials": []object{{"provider": "p", "name": "declared", "secret": planted["a declared credential"]}},
		"api_keys": []object{{"project": "default", "name": "declared", "secret": planted["a declared key"]}}}
	for _, dry := range []bool{true, false, false} {
		root.must("POST", "/admin/v1/configuration:apply", object{"dry_run": dry, "configuration": declared})
	}

	// Errors must not repeat what they refuse.
	for what, s := range planted {
		for _, c := range []struct {
			path string
			body any
		}{
			{"credentials", object{"provider": "p", "secret": s + "\n"}},
			{"credentials", object{"provider": "p", "secret": s + strings.Repeat("x", 9000)}},
			{"credentials", object{"provider": "p", "name": "c", "secret": s}},
			{"credentials", object{"provider": "none", "secret": s}},
			{"credentials", object{"provider": "p", "secret": []string{s}}},
			{"credentials", object{"provider": "p", "secret": object{"value": s}}},
			{"credentials", object{"provider": "p", "labels": object{"a": s + strings.Repeat("x", 300)}}},
			{"credentials", `{"provider":"p","secret":"` + s + `","secret":"` + s + `"}`},
			{"credentials", `{"provider":"p","secret":` + s + `}`},
			{"credentials", `{"provider":"p","secret":"` + s},
			{"credentials", `"` + s + `"`},
			{"credentials", s},
			{"credentials", `{"provider":"p","secret":"` + s + "\xff" + `"}`},
			{"credentials", `{"provider":"p","secret":"` + s + `\u0000"}`},
			{"credentials", `{"provider":"p","create_time":"` + s + `"}`},
			{"credentials?request_id=" + s, object{"provider": "p"}},
			{"apiKeys", object{"project": "default", "secret": s, "secret_sha256": s}},
			{"apiKeys", object{"project": "default", "secret_sha256": s}},
			{"apiKeys", object{"project": "default", "secret": s + " with a space"}},
			{"apiKeys", object{"project": "none", "secret": s}},
			{"apiKeys:claim", object{"token": s}},
			{"apiKeys:claim", object{"token": s + strings.Repeat("x", 200)}},
			{"apiKeys:batchCreate", object{"template": object{"project": "default", "secret": s}, "csv": "n\n1\n"}},
			{"configuration:apply", object{"configuration": object{"credentials": []object{{"provider": "none", "name": "x", "secret": s}}}}},
			{"configuration:apply", object{"configuration": object{"api_keys": []object{{"project": "default", "name": "imported", "secret": s + "-longer"}}}}},
			{"providers", object{"name": "x", "base_url": "https://user:" + s + "@x.example"}},
			{"providers", object{"name": "x", "base_url": "https://x.example", "auth_format": s}},
		} {
			if strings.HasPrefix(c.path, "credentials") || what != "a wrong key" {
				root.do("POST", "/admin/v1/"+c.path, c.body)
			}
		}
		g.try("add_provider", object{"provider_name": "p", "base_url": "https://p.example", "api_key": s + "\n", "auth_name": "authorization", "auth_format": "Bearer {}"})
		g.try("add_model", object{"logos_key": s})
		g.try("get_api_id", object{"api_key": s + "x"})
		g.as(s).do("GET", "/admin/v1/whoami", nil)
		for _, query := range []string{"filter=" + neturl.QueryEscape(`create_time = "`+s+`" OR name = "`+s+`"`), "page_token=" + neturl.QueryEscape(s), "page_size=" + neturl.QueryEscape(s)} {
			root.do("GET", "/admin/v1/teams?"+query, nil)
		}
	}
	// And all that can be read is read.
	for _, collection := range collections {
		for _, x := range root.list(collection, "?page_size=1000") {
			root.get(collection, x)
		}
	}
	for _, path := range []string{"configuration", "settings", "whoami"} {
		root.must("GET", "/admin/v1/"+path, nil)
	}

	tables := dump(t, g.conn())
	for what, s := range planted {
		if said := e.saying(s); len(said) > 0 {
			t.Errorf("%s is in the answers to %q", what, said)
		}
		shown[s] = nil
	}
	for s, where := range shown {
		if where != nil {
			if said := e.saying(s); len(said) != 1 || said[0] != where[0] {
				t.Errorf("a secret that is shown once is in the answers to %q, want %q", said, where)
			}
		}
		for _, form := range []string{s, strings.ToUpper(s), hex.EncodeToString([]byte(s)), base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.Contains(log.String(), form) {
				t.Errorf("the log holds %.12s…", s)
			}
			for table, rows := range tables {
				if strings.Contains(strings.ToLower(rows), strings.ToLower(form)) {
					t.Errorf("the table %s holds %.12s…", table, s)
				}
			}
		}
	}
}

// withPassword makes an empty database whose connection string has a password.
func withPassword(t *testing.T, password string) string {
	t.Helper()
	u, err := neturl.Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	conn := pgtest.Conn(t, u.String())
	role := "canary" + strings.ReplaceAll(u.Path, "/", "_")
	if _, err := conn.Exec(t.Context(), "create role "+pgx.Identifier{role}.Sanitize()+" superuser login password '"+password+"'"); err != nil {
		t.Fatal(err)
	}
	u.User = neturl.UserPassword(role, password)
	return u.String()
}

// dump returns the rows of all tables as text: what a thief of the database reads.
func dump(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "select relname::text from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatalf("the tables are %v, %v", tables, err)
	}
	out := make(map[string]string)
	for _, table := range tables {
		out[table] = scalar[string](t, conn, "select coalesce(string_agg(t::text, E'\\n'), '') from "+pgx.Identifier{table}.Sanitize()+" t")
	}
	return out
}
