// Package openapi is the admin API's description of itself: the OpenAPI document that protoc-gen-openapi makes
// of the protos, and a page that shows it to people. It needs no other host and runs no script. api mounts
// [Handler] on the admin port; it says nothing that needs an API key.
package openapi

import (
	"crypto/sha256"
	_ "embed" // the document
	"encoding/hex"
	"net/http"
)

//go:embed openapi.json
var document []byte

// Handler serves the document and the page.
func Handler() (http.Handler, error) {
	page, err := newPage(document)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /openapi.json", file(document, "application/json"))
	mux.Handle("GET /docs", page)
	return mux, nil
}

// file serves a file that changes with the program only.
func file(content []byte, kind string) http.Handler {
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(content)
	})
}
