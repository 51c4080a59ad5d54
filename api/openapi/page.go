package openapi

import "net/http"

func newPage(document []byte) (http.Handler, error) { return file(document, "application/json"), nil }
