// Package api is how people and programs manage Logos: the admin API of the protos in api/proto, and the
// set-up calls below /logosdb, both over one [Service]. It checks what comes in, and turns errors of the
// domain into statuses; proto messages stop here. It stores nothing itself and makes no call to a
// provider. cmd/logos serves [NewHandler] on the admin port.
package api

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
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

type handler struct {
	service *Service
	token   SetupToken
	log     *zap.Logger
}

// NewHandler serves /admin/v1 and /logosdb.
func NewHandler(s *Service, prober *probe.Prober, token SetupToken, log *zap.Logger) (http.Handler, error) {
	h := &handler{service: s, token: token, log: log}
	mux := http.NewServeMux()
	h.logosdb(mux)
	gateway := runtime.NewServeMux(
		runtime.WithErrorHandler(h.adminError),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}}),
		runtime.WithIncomingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	if err := adminv1.RegisterCallServiceHandlerServer(context.Background(), gateway, &callServer{service: s}); err != nil {
		return nil, fmt.Errorf("register the admin API: %w", err)
	}
	if err := adminv1.RegisterProviderServiceHandlerServer(context.Background(), gateway, &providerServer{prober: prober}); err != nil {
		return nil, fmt.Errorf("register the admin API: %w", err)
	}
	mux.Handle("/admin/v1/", h.requireRoot(gateway))
	return mux, nil
}

// requireRoot lets the holders of root keys in.
func (h *handler) requireRoot(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := logos.HeaderKey(r.Header.Get("Authorization"))
		k, err := h.service.requireRoot(r.Context(), key)
		if err != nil {
			h.adminError(r.Context(), nil, nil, w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, k)))
	})
}
