package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/probe"
)

// maxAdminRequest bounds a message of the admin API, in bytes.
const maxAdminRequest = 4 << 20

// An admin serves the admin API: gRPC, and REST in front of it. Both go through one gate.
type admin struct {
	grpc    *grpc.Server
	rest    http.Handler
	inside  *bufconn.Listener
	conn    *grpc.ClientConn
	serving chan struct{}
}

// newAdmin makes the servers; close ends them.
func newAdmin(s *Service, prober *probe.Prober, explainer Explainer, log *zap.Logger, reg prometheus.Registerer) (*admin, error) {
	g := newGate(byKey{s.store}, s, log, reg)
	a := &admin{
		grpc:   grpc.NewServer(grpc.UnaryInterceptor(g.intercept), grpc.MaxRecvMsgSize(maxAdminRequest)),
		inside: bufconn.Listen(64 << 10), serving: make(chan struct{}),
	}
	adminv1.RegisterTeamServiceServer(a.grpc, &teamServer{Service: s})
	adminv1.RegisterProjectServiceServer(a.grpc, &projectServer{Service: s})
	adminv1.RegisterMemberServiceServer(a.grpc, &memberServer{Service: s})
	adminv1.RegisterAccessProfileServiceServer(a.grpc, &accessProfileServer{Service: s})
	adminv1.RegisterApiKeyServiceServer(a.grpc, &apiKeyServer{Service: s})
	adminv1.RegisterProviderServiceServer(a.grpc, &providerServer{Service: s, prober: prober})
	adminv1.RegisterCredentialServiceServer(a.grpc, &credentialServer{Service: s})
	adminv1.RegisterModelServiceServer(a.grpc, &modelServer{Service: s})
	adminv1.RegisterDeploymentServiceServer(a.grpc, &deploymentServer{Service: s})
	adminv1.RegisterPolicyServiceServer(a.grpc, &policyServer{Service: s})
	adminv1.RegisterDecisionServiceServer(a.grpc, &decisionServer{Service: s, explainer: explainer})
	adminv1.RegisterPriceServiceServer(a.grpc, &priceServer{Service: s})
	adminv1.RegisterCallServiceServer(a.grpc, &callServer{Service: s})
	adminv1.RegisterUsageServiceServer(a.grpc, &usageServer{Service: s})
	adminv1.RegisterAdjustmentServiceServer(a.grpc, &adjustmentServer{Service: s})
	adminv1.RegisterAuditEventServiceServer(a.grpc, &auditServer{Service: s})
	adminv1.RegisterSettingsServiceServer(a.grpc, &settingsServer{Service: s})
	adminv1.RegisterSessionServiceServer(a.grpc, &sessionServer{Service: s})
	adminv1.RegisterBudgetServiceServer(a.grpc, &budgetServer{Service: s})
	adminv1.RegisterConfigurationServiceServer(a.grpc, &configurationServer{Service: s})
	go func() {
		defer close(a.serving)
		_ = a.grpc.Serve(a.inside) // ends with close
	}()
	var err error
	a.conn, err = grpc.NewClient("passthrough:inside", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return a.inside.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err == nil {
		a.rest, err = newREST(a.conn, slices.Collect(maps.Keys(a.grpc.GetServiceInfo())))
	}
	if err != nil {
		a.close()
		return nil, fmt.Errorf("serve the admin API: %w", err)
	}
	return a, nil
}

func (a *admin) close() {
	if a.conn != nil {
		a.conn.Close()
	}
	a.grpc.Stop()
	<-a.serving
}

// restJSON is how answers are written.
var restJSON = protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}

// newREST puts REST in front of the services.
func newREST(conn *grpc.ClientConn, services []string) (http.Handler, error) {
	bindings, err := routesOf(services)
	if err != nil {
		return nil, err
	}
	plain := &runtime.JSONPb{MarshalOptions: restJSON}
	mux := runtime.NewServeMux(
		runtime.WithMiddlewares(bindings.check),
		runtime.WithRoutingErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, r *http.Request, _ int) {
			bindings.notRouted(w, r)
		}),
		runtime.WithDisablePathLengthFallback(), runtime.WithDisableHTTPMethodOverride(),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
			MarshalOptions:   restJSON,
			UnmarshalOptions: protojson.UnmarshalOptions{},
		}),
		runtime.WithMarshalerOption(typeCSV, tableMarshaler{plain}),
		runtime.WithMarshalerOption(typeNDJSON, lineMarshaler{plain}),
		runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
			writeRefusal(w, err)
		}),
		runtime.WithIncomingHeaderMatcher(func(name string) (string, bool) {
			switch name {
			case "Authorization", http.CanonicalHeaderKey(requestIDKey), http.CanonicalHeaderKey(sourceKey):
				return strings.ToLower(name), true
			}
			return "", false
		}),
		runtime.WithOutgoingHeaderMatcher(func(string) (string, bool) { return "", false }),
	)
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		adminv1.RegisterTeamServiceHandler, adminv1.RegisterProjectServiceHandler, adminv1.RegisterMemberServiceHandler,
		adminv1.RegisterAccessProfileServiceHandler, adminv1.RegisterApiKeyServiceHandler, adminv1.RegisterProviderServiceHandler,
		adminv1.RegisterCredentialServiceHandler, adminv1.RegisterModelServiceHandler, adminv1.RegisterDeploymentServiceHandler,
		adminv1.RegisterPolicyServiceHandler, adminv1.RegisterPriceServiceHandler, adminv1.RegisterBudgetServiceHandler, adminv1.RegisterDecisionServiceHandler,
		adminv1.RegisterCallServiceHandler, adminv1.RegisterUsageServiceHandler, adminv1.RegisterAdjustmentServiceHandler, adminv1.RegisterAuditEventServiceHandler, adminv1.RegisterSettingsServiceHandler,
		adminv1.RegisterSessionServiceHandler, adminv1.RegisterConfigurationServiceHandler,
	} {
		if err := register(context.Background(), mux, conn); err != nil {
			return nil, err
		}
	}
	return mux, nil
}

// ServeHTTP answers a request of either kind.
func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > maxAdminRequest {
		writeRefusal(w, logos.Errorf(logos.TooLarge, "request_too_large", "the request is larger than %d bytes", maxAdminRequest))
		return
	}
	id := strings.ToLower(rand.Text())
	r.Header.Set(requestIDKey, id)
	r.Header.Set(sourceKey, r.RemoteAddr)
	w.Header().Set(requestIDKey, id)
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		a.grpc.ServeHTTP(w, r)
		return
	}
	if !printable(r.Header.Get("Authorization")) {
		r.Header.Del("Authorization") // it is no key, and gRPC can't carry it
	}
	w.Header().Set("Cache-Control", "no-store")
	r.Body = http.MaxBytesReader(w, r.Body, maxAdminRequest)
	a.rest.ServeHTTP(w, r)
}
