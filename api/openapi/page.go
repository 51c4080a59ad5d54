package openapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"regexp"
	"strings"
)

//go:embed page.html
var pageHTML string

// base stands in the page for where the API is; each answer puts the address there that it was asked at.
const base = "https://admin.port.of.logos.invalid"

// hostPort is what may be put there. Of others, which browsers don't send, the default is shown.
var hostPort = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$`)

const defaultHost = "127.0.0.1:8081"

// newPage makes the page of a document. It is made once: it only depends on the address.
func newPage(document []byte) (http.Handler, error) {
	var d Document
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	page, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("read the page of the OpenAPI document: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, viewOf(&d)); err != nil {
		return nil, fmt.Errorf("make the page of the OpenAPI document: %w", err)
	}
	policy := "default-src 'none'; style-src '" + styleHash(b.String()) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-cache")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(bytes.ReplaceAll(b.Bytes(), []byte(base), []byte(address(r))))
	}), nil
}

// address is where a request was sent.
func address(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if !hostPort.MatchString(host) {
		host = defaultHost
	}
	return scheme + "://" + host
}

// styleHash allows the one style that the page holds.
func styleHash(page string) string {
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
