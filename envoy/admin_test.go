package envoy_test

import (
	"context"
	"encoding/json"
	"io"
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

const warmingTwo = `{"configs":[{"@type":"x","cluster":{"@type":"y","name":"d1-c1-aa"}},{"@type":"x","cluster":{"@type":"y","name":"d2-c1-bb"}}]}`

func TestReadsProgressFromStats(t *testing.T) {
	t.Parallel()
	stat := func(name, value string) string { return `{"name":"` + name + `","value":` + value + `}` }
	version := stat("cluster_manager.cds.version_text", `"17.3"`)
	warms := func(n string) string { return stat("cluster_manager.warming_clusters", n) }
	listeners := func(active, warming string) string {
		return stat("listener_manager.total_listeners_active", active) + "," + stat("listener_manager.total_listeners_warming", warming)
	}
	for _, c := range []struct {
		name      string
		stats     []string
		clusters  string
		warming   []string
		listening bool
	}{
		{"all is ready", []string{version, warms("0"), listeners("1", "0")}, "17.3", nil, true},
		{"two clusters warm", []string{version, warms("2"), listeners("1", "0")}, "17.3", []string{"d1-c1-aa", "d2-c1-bb"}, true},
		{"the listener warms", []string{version, warms("0"), listeners("0", "1")}, "17.3", nil, false},
		{"a new listener warms beside the old", []string{version, warms("0"), listeners("1", "1")}, "17.3", nil, false},
		{"there is no listener", []string{version, warms("0"), listeners("0", "0")}, "17.3", nil, false},
		{"nothing has come yet", []string{warms("0"), listeners("0", "0")}, "", nil, false},
		{"there are no stats", nil, "", nil, false},
		{"values of other types", []string{stat("cluster_manager.cds.version_text", "5"), warms(`"2"`), listeners("null", "{}")}, "", nil, false},
		{"histograms beside", []string{`{"histograms":{"supported_quantiles":[50]}}`, version, listeners("1", "0")}, "17.3", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			admin := newFake(t, map[string]string{"/stats": `{"stats":[` + strings.Join(c.stats, ",") + `]}`, "/config_dump": warmingTwo})
			clusters, warming, listening, err := admin.Progress(t.Context())
			if clusters != c.clusters || !slices.Equal(warming, c.warming) || listening != c.listening || err != nil {
				t.Errorf("progress is %q, %q, %t, %v; want %q, %q, %t", clusters, warming, listening, err, c.clusters, c.warming, c.listening)
			}
			if want := len(c.warming) > 0; slices.Contains(admin.wasAsked(), "GET /config_dump") != want {
				t.Errorf("asked %q; the names of warming clusters are needed: %t", admin.wasAsked(), want)
			}
		})
	}
}

func TestListsClusters(t *testing.T) {
	t.Parallel()
	admin := newFake(t, map[string]string{"/config_dump": warmingTwo, "/stats": `{"stats":[{"name":"cluster.one_p1.membership_total","value":0},{"name":"cluster.two_p2.membership_total","value":2},
		{"name":"cluster.three_p3.membership_total","value":0},{"name":"cluster.two_p2.membership_healthy","value":0},{"name":"cluster.two.x.membership_total","value":0}]}`})
	if got, err := admin.Vacant(t.Context()); !slices.Equal(got, []string{"one_p1", "three_p3"}) || err != nil {
		t.Errorf("the clusters without hosts are %q, %v", got, err)
	}
	if got, err := admin.Active(t.Context()); !slices.Equal(got, []string{"d1-c1-aa", "d2-c1-bb"}) || err != nil {
		t.Errorf("the active clusters are %q, %v", got, err)
	}
	admin = newFake(t, map[string]string{"/config_dump": "{}", "/stats": `{"stats":[]}`})
	vacant, err := admin.Vacant(t.Context())
	active, err2 := admin.Active(t.Context())
	if len(vacant)+len(active) != 0 || err != nil || err2 != nil {
		t.Errorf("of no clusters, %q are without hosts and %q active, %v, %v", vacant, active, err, err2)
	}
	admin = newFake(t, nil)
	_, err = admin.Vacant(t.Context())
	if _, err2 = admin.Active(t.Context()); err == nil || err2 == nil {
		t.Errorf("an admin that fails gives %v and %v", err, err2)
	}
}

func TestSaysThatProgressIsNotKnown(t *testing.T) {
	t.Parallel()
	const one = `{"stats":[{"name":"cluster_manager.warming_clusters","value":1},{"name":"cluster_manager.cds.version_text","value":"1"}]}`
	for name, answers := range map[string]map[string]string{
		"no stats": {}, "stats that are no JSON": {"/stats": "x"}, "stats that are cut": {"/stats": one[:40]},
		"no dump": {"/stats": one}, "a dump that is no JSON": {"/stats": one, "/config_dump": "x"},
	} {
		admin := newFake(t, answers)
		if clusters, warming, _, err := admin.Progress(t.Context()); err == nil {
			t.Errorf("%s gives %q, %q and no error", name, clusters, warming)
		}
	}
	gone := envoy.NewAdmin(freeAddress(t))
	defer gone.Close()
	if _, _, _, err := gone.Progress(t.Context()); err == nil {
		t.Error("an Envoy that is not there makes progress")
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
