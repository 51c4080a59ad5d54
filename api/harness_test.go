package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	neturl "net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/api"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

type object = map[string]any

const token = api.SetupToken("the-set-up-token")

// A gateway is the admin port of one, with a database of its own.
type gateway struct {
	t       *testing.T
	handler http.Handler
	service *api.Service
	store   *store.Store
	url     string
	root    string // the root key, after setup
	log     *zap.Logger

	mu      sync.Mutex
	inForce []int64 // revisions that were waited for

	explained []api.ExplainedCall
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{t: t, log: zap.NewNop()}
	g.store, g.url = pgtest.Store(t)
	g.handler = g.serve(token, []string{"0.0.0.0:8080", "127.0.0.1:8081", "[::1]:9901"})
	return g
}

// serve makes a handler with a set-up token, for a gateway that listens at its own addresses.
func (g *gateway) serve(token api.SetupToken, own []string) http.Handler {
	g.t.Helper()
	g.service = api.NewService(g.store, func(_ context.Context, revision int64) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.inForce = append(g.inForce, revision)
	}, egress.NewBook(nowhere{}, own, egress.Options{}, g.log, prometheus.NewRegistry()))
	h, err := api.NewHandler(g.service, nil, g, token, &neturl.URL{Scheme: "http", Host: "127.0.0.1:8080"}, g.log, prometheus.NewRegistry())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(h.Close)
	return h
}

// nowhere resolves no name but those of this machine.
type nowhere struct{}

func (nowhere) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if name, err := os.Hostname(); err == nil && strings.EqualFold(host, name) {
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// request makes a request from this machine.
func request(method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:50000", "127.0.0.1:8081"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

// do answers a request; every answer is JSON that nothing may cache.
func (g *gateway) do(h http.Handler, r *http.Request) (status int, answer object) {
	g.t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		g.t.Fatalf("%s %s answers %d %q: %v", r.Method, r.URL.Path, w.Code, w.Body, err)
	}
	if kind := w.Header().Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		g.t.Errorf("%s %s answers with the type %q", r.Method, r.URL.Path, kind)
	}
	if strings.HasPrefix(r.URL.Path, "/logosdb") && w.Header().Get("Cache-Control") != "no-store" {
		g.t.Errorf("%s %s may be cached", r.Method, r.URL.Path)
	}
	return w.Code, answer
}

// try makes a set-up call; the root key is given unless the body says otherwise.
func (g *gateway) try(name string, body object) (status int, answer object) {
	g.t.Helper()
	body = maps.Clone(body)
	if _, given := body["logos_key"]; !given && g.root != "" {
		body["logos_key"] = g.root
	}
	return g.do(g.handler, request("POST", "/logosdb/"+name, encode(g.t, body)))
}

// set makes a set-up call that must work.
func (g *gateway) set(name string, body object) object {
	g.t.Helper()
	status, answer := g.try(name, body)
	if status != 200 {
		g.t.Fatalf("%s answers %d %v", name, status, answer)
	}
	return answer
}

// setup makes the root key.
func (g *gateway) setup() {
	g.t.Helper()
	g.root, _ = g.set("setup", object{"provider_name": "first", "base_url": "https://first.example/v1"})["logos-key"].(string)
	if !strings.HasPrefix(g.root, "lg-") {
		g.t.Fatalf("setup answers the key %q", g.root)
	}
}

func (g *gateway) conn() *pgx.Conn { return pgtest.Conn(g.t, g.url) }

// scalar returns the one value of a query.
func scalar[T any](t *testing.T, conn *pgx.Conn, query string) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func encode(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// message returns the message of an error, in the shape of the set-up calls.
func message(t *testing.T, answer object) string {
	t.Helper()
	text, ok := answer["error"].(string)
	if !ok || text == "" || len(answer) != 1 {
		t.Errorf("the error is %v, want a text", answer)
	}
	return text
}
