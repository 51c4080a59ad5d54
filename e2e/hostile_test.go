package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// raw sends bytes to the data plane as they are, and returns the status line of the answer.
func (g *gateway) raw(text string) string {
	g.t.Helper()
	conn, err := net.DialTimeout("tcp", g.data, time.Second)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(waitLong))
	if _, err := io.WriteString(conn, text); err != nil {
		g.t.Fatal(err)
	}
	answer := make([]byte, 1024)
	n, err := conn.Read(answer)
	if err != nil {
		g.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(answer[:n]), "\r\n")
	return line
}

// What Envoy refuses before it gives a request an id of its own carries the caller's.
func TestNobodyEndsACallByNamingItsId(t *testing.T) {
	refused := make(chan struct{})
	p := newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		openEvents(w)
		<-refused
		events{w}.send(object{"usage": p.charge(usage{input: 11, output: 7}).chat()})
	})
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	resp, err := g.open("POST", "/v1/chat/completions", strings.NewReader(chatBody("m", true)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	id := resp.Header.Get("x-request-id")
	before := g.metric("logos_undecided_requests_total")
	for _, request := range []string{"GET / HTTP/1.1\r\nx-request-id: %s\r\n\r\n", "GET /a#b HTTP/1.1\r\nhost: x\r\nx-request-id: %s\r\n\r\n", "GET / HTTP/1.0\r\n\r\n%.0s"} {
		if line := g.raw(fmt.Sprintf(request, id)); !strings.HasPrefix(line, "HTTP/1.1 4") {
			t.Errorf("%q is answered %s", request, line)
		}
	}
	g.eventually("the refused requests are counted", waitLong, func() bool { return g.metric("logos_undecided_requests_total") == before+3 })
	close(refused)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if rec := g.record(id); rec.EndReason != "ok" || rec.Status != 200 || rec.meters() != "input=11 output=7" {
		t.Errorf("record %+v", rec)
	}
	if n := g.metric("logos_access_log_unknown_lines_total"); n != 0 {
		t.Errorf("%g lines are kept aside", n)
	}
}

func TestAProviderDoesNotSpeakForLogos(t *testing.T) {
	p := newProvider(t, func(_ *provider, w http.ResponseWriter, _ asked) {
		for _, name := range []string{"x-logos-model", "x-logos-provider", "x-logos-attempts", "x-request-id"} {
			w.Header().Set(name, "spoofed")
		}
		answerJSON(w, 200, object{})
	})
	g := start(t, nil)
	g.setup("p", p.URL)
	r := g.call("GET", "/v1/anything", "")
	if r.status != 200 || strings.Contains(fmt.Sprint(r.header), "spoofed") || r.header.Get("x-logos-provider") != "p" {
		t.Errorf("answer %v %v", r, r.header)
	}
}
