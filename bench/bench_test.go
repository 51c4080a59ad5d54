package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// through serves the handler and makes a call of each shape to it.
func through(t *testing.T, h http.Handler, each func(shape, error)) {
	t.Helper()
	server := httptest.NewServer(h)
	defer server.Close()
	to := &side{address: server.Listener.Addr().String(), key: productKey}
	var c client
	defer c.close()
	for _, s := range shapes() {
		_, err := c.call(s.call(to, newMock(0)))
		each(s, err)
	}
}

func TestClientReadsWhatTheMockSays(t *testing.T) {
	m := newMock(0)
	through(t, m.handler(), func(s shape, err error) {
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	})
	want := account{Requests: 3, Tokens: 2*(promptTokens+answerTokens) + promptTokens + streamTokens}
	if got := *m.books["Bearer "+productKey]; got != want {
		t.Errorf("the books say %+v, want %+v", got, want)
	}
}

func TestClientRefusesWhatIsNotTheAnswer(t *testing.T) {
	m := newMock(0)
	for name, wrong := range map[string]http.HandlerFunc{
		"a refusal":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
		"another answer":       func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") },
		"a stream cut short":   func(w http.ResponseWriter, _ *http.Request) { w.Write(m.events[0]) },
		"a stream broken off":  func(w http.ResponseWriter, _ *http.Request) { w.Write(m.events[0]); panic(http.ErrAbortHandler) },
		"a stream with no use": func(w http.ResponseWriter, _ *http.Request) { w.Write(m.events[0]); w.Write(m.done) },
	} {
		through(t, wrong, func(s shape, err error) {
			if err == nil {
				t.Errorf("%s passes as the answer to %s", name, s.name)
			}
		})
	}
}

func TestClientDoesNotWaitForAnEmptyBody(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		defer theirs.Close()
		if _, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
			io.WriteString(theirs, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
			io.Copy(io.Discard, theirs) // the connection stays open until the client is done with it
		}
	}()
	c := client{conn: ours, r: bufio.NewReader(ours)}
	_, err := c.call(shapes()[0].call(&side{address: "a:1"}, newMock(0)))
	if err == nil || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("got %v, want a status 503", err)
	}
}

func TestUsageComesOnlyWhenAskedFor(t *testing.T) {
	m := newMock(0)
	for body, want := range map[string]bool{
		`{"stream":true}`: false,
		`{"stream": true, "stream_options": {"include_usage" : true}}`: true,
		`{"stream":true,"stream_options":{"include_usage":false}}`:     false,
	} {
		w := httptest.NewRecorder()
		m.handler().ServeHTTP(w, httptest.NewRequest("POST", callPath, strings.NewReader(body)))
		if got := strings.Contains(w.Body.String(), `"usage"`); got != want || !strings.HasSuffix(w.Body.String(), string(m.done)) {
			t.Errorf("%s: usage %t, want %t; the end is %q", body, got, want, w.Body.String()[w.Body.Len()-40:])
		}
	}
}

func TestMetricsAreSummedOverTheirLabels(t *testing.T) {
	const page = "# HELP logos_tokens_total Tokens.\nlogos_tokens_total{meter=\"input\",model=\"a b}\"} 1.5e+03\nlogos_tokens_total{meter=\"output\"} 7\nlogos_tokens_total_other 9\nlogos_calls_recorded_total 3\n"
	for name, want := range map[string]float64{tokensMetric: 1507, callsMetric: 3} {
		if got, found, err := sumMetric(page, name); got != want || !found || err != nil {
			t.Errorf("%s is %v, %t, %v; want %v", name, got, found, err, want)
		}
	}
	if _, found, _ := sumMetric(page, "logos_absent_total"); found {
		t.Error("a metric that is not there was found")
	}
}

func TestStatIsReadBehindANameOfAnything(t *testing.T) {
	p, err := parseStat(7, "7 (a) (b c) S 3 7 7 0 -1 4194560 1 2 3 4 150 50 25 75 20 0 1 0 4711 1 2")
	want := process{pid: 7, parent: 3, name: "a) (b c", begin: 4711, cpu: 2, cpuOfDead: 1}
	if p != want || err != nil {
		t.Errorf("got %+v, %v; want %+v", p, err, want)
	}
}

func TestTheProductSeesNoSettingsOfItsSurroundings(t *testing.T) {
	for _, name := range []string{"DATABASE_URL", "LOGOS_DATA_DIR", "PGHOST", "LOGOS_POSTGRES"} {
		t.Setenv(name, "set")
	}
	got := strings.Join(cleanEnvironment(), "\n")
	for _, name := range []string{"DATABASE_URL", "LOGOS_DATA_DIR", "PGHOST"} {
		if strings.Contains(got, name+"=") {
			t.Errorf("%s goes on to the product", name)
		}
	}
	if !strings.Contains(got, "LOGOS_POSTGRES=set") || !strings.Contains(got, "PATH="+os.Getenv("PATH")) {
		t.Errorf("what the product needs is not there: %s", got)
	}
}

func TestRatiosAreHeldAgainstTheAim(t *testing.T) {
	calls := func(n int) []timing { return make([]timing, n) }
	c := cell{shape: shape{name: "x", cpu: 3}, connections: 16}
	c.rounds[0] = []round{{timings: calls(10), cpu: parts{envoy: 1}}, {timings: calls(10), cpu: parts{envoy: 1}}}
	c.rounds[1] = []round{{timings: calls(10), cpu: parts{envoy: 1, serve: 1, postgres: 9}}, {timings: calls(10), cpu: parts{envoy: 2, serve: 1}}}
	for aim, want := range map[float64]string{3: "yes", 2: "**no**"} {
		c.shape.cpu = aim
		line := report{cells: []*cell{&c}}.rows()[0].markdown()
		if !strings.Contains(line, "| 100 ms | 250 ms | 2.50 (2.00–3.00) |") || !strings.Contains(line, "| "+want+" |") || !strings.Contains(line, "| 450 ms |") {
			t.Errorf("aim %v: %s", aim, line)
		}
	}
}
