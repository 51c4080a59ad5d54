package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ls1intum/edutelligence/logos"
)

const claimToken = "abcdefghijklmnopqrstuvwxyz"

// claims hands keys over by link, and keeps what it was asked.
type claims struct {
	asked []string
	err   error
}

func (c *claims) Claim(_ context.Context, token string) (logos.Secret, error) {
	c.asked = append(c.asked, token)
	return "lg-handed-over", c.err
}

// page is the claim page before a claimer, and what it logs.
func page(t *testing.T, c claimer, base string) (http.Handler, *observer.ObservedLogs) {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	return claimPage(c, u, zap.New(core)), logs
}

// visit calls the page; whatever it answers, nobody may keep or frame it, and it loads nothing.
func visit(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, "http://logos.example.org:8081"+path, nil))
	body := w.Body.String()
	csp := w.Header().Get("Content-Security-Policy")
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Type": "text/html; charset=utf-8",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, want := range []string{"default-src 'none';", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy is %q, want %s", csp, want)
		}
	}
	for _, tag := range regexp.MustCompile(`<(style|script)[^>]*>`).FindAllString(body, -1) {
		nonce := regexp.MustCompile(`nonce="([^"]+)"`).FindStringSubmatch(tag)
		if nonce == nil || !strings.Contains(csp, "'nonce-"+nonce[1]+"'") {
			t.Errorf("%s does not run under %q", tag, csp)
		}
	}
	if links := regexp.MustCompile(`(?i)(src|href|action)\s*=|url\(|@import`).FindString(body); links != "" {
		t.Errorf("the page leads elsewhere: %s", links)
	}
	if strings.Contains(body, claimToken) {
		t.Error("the page holds the token")
	}
	return w.Code, body
}

func TestOpeningAClaimLinkUsesNothingUp(t *testing.T) {
	t.Parallel()
	c := &claims{}
	h, _ := page(t, c, "http://127.0.0.1:8080")
	for _, method := range []string{"GET", "HEAD", "GET"} {
		status, body := visit(t, h, method, "/claim/"+claimToken)
		if status != 200 || !strings.Contains(body, `<form method="post">`) || strings.Contains(body, "lg-") {
			t.Errorf("%s answers %d %s", method, status, body)
		}
	}
	w := httptest.NewRecorder()
	for _, method := range []string{"PUT", "OPTIONS", "DELETE"} {
		h.ServeHTTP(w, httptest.NewRequest(method, "/claim/"+claimToken, nil))
	}
	if len(c.asked) != 0 {
		t.Errorf("the key was claimed %d times", len(c.asked))
	}
}

func TestPressingTheButtonShowsTheKey(t *testing.T) {
	t.Parallel()
	c := &claims{}
	h, logs := page(t, c, "http://127.0.0.1:8080")
	status, body := visit(t, h, "POST", "/claim/"+claimToken)
	if status != 200 || !slices.Equal(c.asked, []string{claimToken}) {
		t.Fatalf("it answers %d, after claims of %q", status, c.asked)
	}
	for _, want := range []string{`<pre id="key">lg-handed-over</pre>`, "OPENAI_BASE_URL=http://logos.example.org:8080/v1\nOPENAI_API_KEY=lg-handed-over</pre>", `data-copy="key"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s: %s", want, body)
		}
	}
	if logs.Len() != 0 {
		t.Errorf("it logs %v", logs.All())
	}
}

func TestAClaimThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		want   string
		logs   int
	}{
		{logos.Errorf(logos.NotFound, "claim_expired", "this link worked until <yesterday>"), 404, "this link worked until &lt;yesterday&gt;.", 0},
		{logos.Errorf(logos.Unavailable, "x", "try again"), 503, "try again.", 0},
		{errors.New("connection to secret-host refused"), 500, "the gateway failed", 1},
	} {
		h, logs := page(t, &claims{err: c.err}, "http://127.0.0.1:8080")
		status, body := visit(t, h, "POST", "/claim/"+claimToken)
		if status != c.status || !strings.Contains(body, c.want) || strings.Contains(body, "secret-host") || strings.Contains(body, "lg-") {
			t.Errorf("after %v, it answers %d %s", c.err, status, body)
		}
		if logs.Len() != c.logs || c.logs == 1 && strings.Contains(logs.All()[0].Entry.Message, claimToken) {
			t.Errorf("after %v, it logs %v", c.err, logs.All())
		}
	}
}

func TestThePageKnowsWhereCallsGo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ base, host, want string }{
		{"http://127.0.0.1:8080", "127.0.0.1:8081", "http://127.0.0.1:8080/v1"},
		{"http://127.0.0.1:8080", "localhost", "http://localhost:8080/v1"},
		{"https://0.0.0.0:443", "logos.example.org:8081", "https://logos.example.org:443/v1"},
		{"http://:8080", "logos.example.org", "http://logos.example.org:8080/v1"},
		{"http://[::]:8080", "[2001:db8::1]:8081", "http://[2001:db8::1]:8080/v1"},
		{"http://10.0.0.7:8080", "logos.example.org:8081", "http://10.0.0.7:8080/v1"},
		{"http://api.example.org:80", "logos.example.org:8081", "http://api.example.org:80/v1"},
		{"http://0.0.0.0:8080", "", "http://0.0.0.0:8080/v1"},
	} {
		u, err := url.Parse(c.base)
		if err != nil {
			t.Fatal(err)
		}
		if got := clientURL(u, c.host); got != c.want {
			t.Errorf("for %s, seen at %q, it is %s, want %s", c.base, c.host, got, c.want)
		}
	}
}
