package openapi_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
)

func get(t *testing.T, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	h, err := openapi.Handler()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", path, nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func document(t *testing.T) *openapi.Document {
	t.Helper()
	var d openapi.Document
	if err := json.Unmarshal(get(t, "/openapi.json").Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

func TestAsksAgainWhetherTheDocumentChanged(t *testing.T) {
	t.Parallel()
	first := get(t, "/openapi.json")
	if first.Code != 200 || first.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", first.Code, first.Header())
	}
	tag := first.Header().Get("ETag")
	if again := get(t, "/openapi.json", func(r *http.Request) { r.Header.Set("If-None-Match", tag) }); again.Code != 304 || again.Body.Len() != 0 {
		t.Errorf("the same document again: %d, %d bytes", again.Code, again.Body.Len())
	}
	if other := get(t, "/openapi.json", func(r *http.Request) { r.Header.Set("If-None-Match", `"x"`) }); other.Code != 200 {
		t.Errorf("another document: %d", other.Code)
	}
}

func TestReadsTheDocumentThatItWrites(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(document(t))
	if err != nil {
		t.Fatal(err)
	}
	var written, read any
	if json.Unmarshal(get(t, "/openapi.json").Body.Bytes(), &written) != nil || json.Unmarshal(text, &read) != nil {
		t.Fatal("no JSON")
	}
	a, _ := json.Marshal(written)
	b, _ := json.Marshal(read)
	if string(a) != string(b) {
		t.Error("the model of the document loses something of it")
	}
}

func TestPageShowsEveryOperation(t *testing.T) {
	t.Parallel()
	page := get(t, "/docs").Body.String()
	for path, methods := range document(t).Paths.All() {
		for verb, o := range methods.All() {
			if !strings.Contains(page, `<article id="`+o.OperationID+`">`) {
				t.Errorf("%s %s is not on the page", verb, path)
			}
		}
	}
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[id[1]] {
			t.Errorf("%s is there twice", id[1])
		}
		ids[id[1]] = true
	}
	for _, link := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !ids[link[1]] {
			t.Errorf("a link leads to %s, which is not on the page", link[1])
		}
	}
}

func TestPageLoadsNothing(t *testing.T) {
	t.Parallel()
	w := get(t, "/docs")
	page := w.Body.String()
	for _, way := range []string{"<script", "<link", "<img", "<iframe", "<form", " src=", " style=", " on", "@import", "url("} {
		if i := strings.Index(page, way); i >= 0 && (way != " on" || regexp.MustCompile(`<[^>]* on[a-z]+=`).MatchString(page)) {
			t.Errorf("the page has %q: …%s…", way, page[i:min(len(page), i+80)])
		}
	}
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if policy := w.Header().Get("Content-Security-Policy"); policy != want {
		t.Errorf("the policy is %q, want %q", policy, want)
	}
}

func TestPageShowsTheAddressThatItIsAskedAt(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"logos.example:9443": "https://logos.example:9443/", "[::1]:8081": "https://[::1]:8081/", "logos": "https://logos/",
		`x"><script>alert(1)</script>`: "https://127.0.0.1:8081/", "x'; rm -r ~; '": "https://127.0.0.1:8081/", "": "https://127.0.0.1:8081/",
	} {
		page := get(t, "/docs", func(r *http.Request) { r.Host, r.TLS = host, &tls.ConnectionState{} }).Body.String()
		if !strings.Contains(page, "curl "+want+"admin/v1/whoami") {
			t.Errorf("asked at %q, the page does not show %s", host, want)
		}
		if strings.Contains(page, "<script") || strings.Contains(page, ".invalid") {
			t.Errorf("asked at %q, the page shows what it must not", host)
		}
	}
	if page := get(t, "/docs").Body.String(); !strings.Contains(page, "curl http://example.com/admin/v1/whoami") {
		t.Error("without TLS, the page does not show http")
	}
}
