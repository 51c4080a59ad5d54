package api

import (
	"context"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// Metadata that the HTTP handler sets; it removes what a client sends under these names.
const (
	requestIDKey = "x-request-id"
	sourceKey    = "x-logos-source"
)

// A gate stands before every method: it authenticates, authorises and validates.
type gate struct {
	who     Authenticator
	service *Service
	log     *zap.Logger
	seconds *prometheus.HistogramVec
}

func newGate(who Authenticator, s *Service, log *zap.Logger, reg prometheus.Registerer) *gate {
	return &gate{who: who, service: s, log: log, seconds: promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
		Name: "logos_admin_request_seconds", Help: "Calls of the admin API, by method and gRPC code.",
		Buckets: []float64{.001, .01, .1, 1, 10},
	}, []string{"method", "code"})}
}

func (g *gate) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	begin := time.Now()
	defer func() {
		g.seconds.WithLabelValues(method, status.Code(err).String()).Observe(time.Since(begin).Seconds())
	}()
	defer func() {
		if p := recover(); p != nil {
			g.log.Error("panic in an admin call", zap.String("method", method), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			answer, err = nil, statusOf(errInternal)
		}
	}()
	if ctx, err = g.admit(ctx, method); err != nil {
		return nil, g.report(method, err)
	}
	if err := g.check(request.(proto.Message)); err != nil {
		return nil, g.report(method, err)
	}
	answer, err = handle(ctx, request)
	if err != nil {
		return nil, g.report(method, err)
	}
	return answer, nil
}

// check refuses requests that break the rules of their proto.
func (g *gate) check(request proto.Message) error {
	if err := storable("", request.ProtoReflect()); err != nil {
		return err
	}
	return g.service.validate(request)
}

// admit returns a context with the caller, or refuses it.
func (g *gate) admit(ctx context.Context, method string) (context.Context, error) {
	in, _ := metadata.FromIncomingContext(ctx)
	c := &caller{method: method, requestID: first(in, requestIDKey), source: sourceOf(ctx, in)}
	if public[method] {
		c.scope = store.Scope{Nothing: true}
		return withCaller(ctx, c), nil
	}
	p, err := g.who.Authenticate(ctx, bearer(first(in, "authorization")))
	if err != nil {
		return nil, err
	}
	c.Principal = *p
	if c.scope, err = authorize(p, method); err != nil {
		return nil, err
	}
	return withCaller(ctx, c), nil
}

// report makes a status of an error; what is nobody's business but ours goes to the log.
func (g *gate) report(method string, err error) error {
	s := statusOf(err)
	if logos.KindOf(err) == logos.Internal && isInternal(s) {
		g.log.Error("an admin call failed", zap.String("method", method), zap.Error(err))
	}
	return s
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// bearer returns the token of an Authorization header.
func bearer(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// sourceOf returns the address from which a call comes.
func sourceOf(ctx context.Context, in metadata.MD) string {
	address := first(in, sourceKey)
	if p, ok := peer.FromContext(ctx); ok && address == "" {
		address = p.Addr.String()
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return ""
}
