// Package api is how people and programs manage Logos: the admin API of the protos in api/proto, and the
// set-up calls below /logosdb, both over one [Service]. It checks what comes in, and turns errors of the
// domain into statuses; proto messages stop here. It stores nothing itself and makes no call to a
// provider. cmd/logos serves [NewHandler] on the admin port.
package api

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
	"github.com/ls1intum/edutelligence/logos/probe"
)

// A SetupToken allows a first set-up from another machine.
type SetupToken string

// NewSetupToken makes a token for the life of this process.
func NewSetupToken() SetupToken {
	var b [16]byte
	rand.Read(b[:])
	return SetupToken(hex.EncodeToString(b[:]))
}

func (t SetupToken) matches(given string) bool {
	return t != "" && subtle.ConstantTimeCompare([]byte(t), []byte(given)) == 1
}

// A Handler serves the admin port: /admin/v1, by gRPC and REST, what describes it, and /logosdb.
type Handler struct {
	service *Service
	token   SetupToken
	log     *zap.Logger
	mux     *http.ServeMux
	admin   *admin
}

// NewHandler makes a handler. prober tries providers, explainer decides calls; dataPlane is where calls are
// answered. Close ends what it started.
func NewHandler(s *Service, prober *probe.Prober, explainer Explainer, token SetupToken, dataPlane *url.URL, log *zap.Logger, reg prometheus.Registerer) (*Handler, error) {
	h := &Handler{service: s, token: token, log: log, mux: http.NewServeMux()}
	var err error
	if h.admin, err = newAdmin(s, prober, explainer, log, reg); err != nil {
		return nil, err
	}
	described, err := openapi.Handler()
	if err != nil {
		h.Close()
		return nil, err
	}
	h.mux.Handle("/openapi.json", described)
	h.mux.Handle("/docs", described)
	h.logosdb(h.mux)
	h.mux.Handle(claimPath, claimPage(s, dataPlane, log))
	return h, nil
}

// Close ends calls under way.
func (h *Handler) Close() { h.admin.close() }

// ServeHTTP answers a request; calls by gRPC come over HTTP/2.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Not by the mux, which redirects paths that it would write otherwise.
	if strings.HasPrefix(r.URL.Path, "/logos.admin.v1.") || strings.HasPrefix(r.URL.Path, "/admin/v1/") {
		h.admin.ServeHTTP(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}
