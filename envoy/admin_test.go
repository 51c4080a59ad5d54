package envoy_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos/envoy"
)

func fetch(ctx context.Context, t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d, %v", url, resp.StatusCode, err)
	}
	return body
}

// A fake serves what an Envoy's admin answers, by path, and notes what it was asked.
type fake struct {
	*envoy.Admin
	mu    sync.Mutex
	asked []string
}

func newFake(t *testing.T, answers map[string]string) *fake {
	t.Helper()
	f := &fake{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked = append(f.asked, r.Method+" "+r.URL.Path)
		answer, known := answers[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		if r.URL.Path == "/stats" {
			answer = filtered(t, answer, r)
		}
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	f.Admin = envoy.NewAdmin(strings.TrimPrefix(server.URL, "http://"))
	t.Cleanup(f.Close)
	return f
}

func (f *fake) wasAsked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// filtered leaves out stats that the request does not ask for, as Envoy does.
func filtered(t *testing.T, answer string, r *http.Request) string {
	if r.FormValue("format") != "json" {
		t.Errorf("asked for stats with %s", r.URL.RawQuery)
	}
	filter, err := regexp.Compile(r.FormValue("filter"))
	if err != nil {
		t.Errorf("the filter: %v", err)
		return ""
	}
	var all struct {
		Stats []map[string]any `json:"stats"`
	}
	if json.Unmarshal([]byte(answer), &all) != nil {
		return answer
	}
	all.Stats = slices.DeleteFunc(all.Stats, func(s map[string]any) bool {
		name, has := s["name"].(string)
		return has && !filter.MatchString(name)
	})
	out, err := json.Marshal(all)
	if err != nil {
		t.Error(err)
	}
	return string(out)
}

func TestSaysWhetherEnvoyListens(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{
		`{"listener_statuses":[{"name":"data","local_address":{}}]}`: true, `{"listener_statuses":[]}`: false, `{}`: false,
	} {
		if got, err := newFake(t, map[string]string{"/listeners": answer}).Listening(t.Context()); got != want || err != nil {
			t.Errorf("%s: Envoy listens: %t, %v", answer, got, err)
		}
	}
	for name, answers := range map[string]map[string]string{"no answer": nil, "an answer that is no JSON": {"/listeners": "data::1"}} {
		if got, err := newFake(t, answers).Listening(t.Context()); got || err == nil {
			t.Errorf("%s: Envoy listens: %t, %v", name, got, err)
		}
	}
}

func TestListsTheVersionsOfClusters(t *testing.T) {
	t.Parallel()
	dump := `{"configs":[{"@type":"x","version_info":"v1","cluster":{"@type":"y","name":"d1-c1-aa"}},{"@type":"x","version_info":"v2","cluster":{"@type":"y","name":"d2-c1-bb"}}]}`
	got, err := newFake(t, map[string]string{"/config_dump": dump}).Clusters(t.Context())
	if want := map[string]string{"d1-c1-aa": "v1", "d2-c1-bb": "v2"}; !maps.Equal(got, want) || err != nil {
		t.Errorf("the clusters are %v, %v; want %v", got, err, want)
	}
	if got, err := newFake(t, map[string]string{"/config_dump": "{}"}).Clusters(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("of no clusters there are %v, %v", got, err)
	}
	for name, answers := range map[string]map[string]string{"no answer": nil, "a dump that is no JSON": {"/config_dump": "x"}, "a dump that is cut": {"/config_dump": dump[:40]}} {
		if got, err := newFake(t, answers).Clusters(t.Context()); err == nil {
			t.Errorf("%s gives %v and no error", name, got)
		}
	}
}

func TestSumsCountersButThoseOfTheAdmin(t *testing.T) {
	t.Parallel()
	admin := newFake(t, map[string]string{"/stats": `{"stats":[{"name":"http.admin.downstream_rq_active","value":1},{"name":"http.logos.downstream_rq_active","value":3},{"name":"http.other.downstream_rq_active","value":4},{"name":"http.logos.downstream_rq_total","value":50}]}`})
	if n, err := admin.ActiveRequests(t.Context()); n != 7 || err != nil {
		t.Errorf("%d requests are active, %v; want 7", n, err)
	}
	admin = newFake(t, map[string]string{"/stats": `{"stats":[{"name":"filesystem.write_failed","value":5},{"name":"filesystem.write_completed","value":50}]}`})
	if n, err := admin.WriteFailures(t.Context()); n != 5 || err != nil {
		t.Errorf("%d writes failed, %v; want 5", n, err)
	}
	admin = newFake(t, map[string]string{"/stats": `{"stats":[]}`})
	if n, err := admin.WriteFailures(t.Context()); n != 0 || err != nil {
		t.Errorf("%d writes failed, %v; want 0", n, err)
	}
	admin = newFake(t, nil)
	if _, err := admin.WriteFailures(t.Context()); err == nil {
		t.Error("an admin that fails counts no failures")
	}
}

func TestTellsEnvoyWhatToDo(t *testing.T) {
	t.Parallel()
	admin := newFake(t, map[string]string{"/reopen_logs": "OK\n", "/healthcheck/fail": "OK\n", "/drain_listeners": "OK\n"})
	if err := admin.Reopen(t.Context()); err != nil {
		t.Error(err)
	}
	if err := admin.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if want := []string{"POST /reopen_logs", "POST /healthcheck/fail", "POST /drain_listeners"}; !slices.Equal(admin.wasAsked(), want) {
		t.Errorf("asked %q, want %q", admin.wasAsked(), want)
	}
	admin = newFake(t, nil)
	if admin.Reopen(t.Context()) == nil || admin.Drain(t.Context()) == nil {
		t.Error("an admin that fails gives no error")
	}
}

func TestWaitsForNoAnswerForLong(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	admin := envoy.NewAdmin(strings.TrimPrefix(server.URL, "http://"))
	defer admin.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := admin.WriteFailures(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("an Envoy that hangs gives %v", err)
	}
}
