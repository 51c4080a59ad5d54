// Package extproc answers Envoy's external-processing filter: one gRPC stream, one decision, one answer.
// It authenticates the caller on the headers, before a body is buffered; scans the body; chooses targets;
// reserves what the call may use of budgets; notes the intent; and tells Envoy where to send the call and what to change for each target. Then it
// closes the stream: the response is Envoy's alone, and survives the death of this process. It makes no
// database call and takes no lock that others hold long. cmd/logos serves it on a Unix socket.
package extproc

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// EpochHeader is the gRPC metadata in which Envoy names its own process.
const EpochHeader = "x-logos-epoch"

// Intents notes what is about to be sent, so that it can be settled whoever dies.
type Intents interface {
	// Begin notes a call. An error means that nothing was noted and the call must not go on.
	Begin(id logos.CallID, epoch string, d *logos.Decision, encoded []byte) error
}

// A Config holds what a Server can be told; the zero value works.
type Config struct {
	MaxBodyBytes int64         // of a request; 0: 32 MiB
	MaxDuration  time.Duration // of a call, from its decision; 0: one hour
	// FirstByteTimeout is after what Envoy gives up an attempt that has no answer, IdleTimeout after what a call in
	// which nothing happens; 0: 15 minutes.
	FirstByteTimeout, IdleTimeout time.Duration
	Probes                        *Probes // announced calls that try a provider; nil: there are none
	// Inactive says why Envoy can't use a target's cluster: one of policy's reasons. nil: it is not ready.
	Inactive func(*logos.Target) string
	// State returns what is measured of a target; nil: nothing is. It is asked for each candidate of each call.
	State func(t *logos.Target, inputTokens int64) policy.State
	// Peek is State for what is not sent, and for targets that were claimed; nil: State.
	Peek func(t *logos.Target, inputTokens int64) policy.State
	// Claim keeps a target that was offered for a call that has it among its targets; nil: it always may have it.
	Claim func(*logos.Target) bool
	// OutputTokens returns how long answers to a project's calls of a model are expected to be; nil or 0: not
	// known.
	OutputTokens func(logos.ProjectID, logos.ModelID) int64
	// Sent is told of each call that is about to be sent; it may be nil.
	Sent func(logos.CallID, *logos.Decision)
	// Budgets holds what calls may use; nil: there are no budgets.
	Budgets *budget.Counters
	Now     func() time.Time
}

// A Server decides calls for Envoy.
type Server struct {
	extprocv3.UnimplementedExternalProcessorServer
	current func() *Snapshot
	active  func(cluster string) bool
	intents Intents
	cfg     Config
	log     *zap.Logger

	incumbents incumbents
	affinity   affinity

	decisions *prometheus.CounterVec
	duration  prometheus.Histogram
}

// New makes a server. current returns what is in force, or nil before there is anything; active says
// whether Envoy can use a cluster now.
func New(current func() *Snapshot, active func(cluster string) bool, intents Intents, cfg Config, log *zap.Logger, reg prometheus.Registerer) *Server {
	if cfg.MaxBodyBytes == 0 {
		cfg.MaxBodyBytes = 32 << 20
	}
	if cfg.MaxDuration == 0 {
		cfg.MaxDuration = time.Hour
	}
	cfg.FirstByteTimeout = cmp.Or(cfg.FirstByteTimeout, 15*time.Minute)
	cfg.IdleTimeout = cmp.Or(cfg.IdleTimeout, 15*time.Minute)
	if cfg.Inactive == nil {
		cfg.Inactive = func(*logos.Target) string { return policy.NotActive }
	}
	if cfg.Peek == nil {
		cfg.Peek = cfg.State
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	factory := promauto.With(reg)
	return &Server{
		current: current, active: active, intents: intents, cfg: cfg, log: log,
		decisions: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "logos_decisions_total",
			Help: "Requests decided, by outcome: sent, answered (lists of models), or the error code of the refusal.",
		}, []string{"outcome"}),
		duration: factory.NewHistogram(prometheus.HistogramOpts{
			Name:    "logos_decision_duration_seconds",
			Help:    "Time from the last message of Envoy to the decision.",
			Buckets: []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .1, 1},
		}),
	}
}

// ServerOptions returns what a gRPC server for Envoy needs: room for bodies of maxBody bytes, and windows
// and buffers in which they arrive in few steps, and the codec that [Server.Process] reads them with.
func ServerOptions(maxBody int64) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(int(maxBody) + 1<<20),
		grpc.InitialWindowSize(4 << 20), grpc.InitialConnWindowSize(16 << 20),
		grpc.ReadBufferSize(128 << 10), grpc.WriteBufferSize(64 << 10),
		// Goroutines that are used again keep the stack that a decision has grown.
		grpc.NumStreamWorkers(64),
	}
}

// Process handles the stream of one request.
func (s *Server) Process(stream extprocv3.ExternalProcessor_ProcessServer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic in a decision", zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			s.decisions.WithLabelValues("panic").Inc()
			err = status.Error(codes.Internal, "internal error")
		}
	}()
	var m message
	defer m.free()
	if err := m.receive(stream); err != nil {
		return nil //nolint:nilerr // Envoy gave the request up
	}
	start := time.Now()
	if !m.hasHeaders {
		return status.Error(codes.InvalidArgument, "the first message must be the request's headers")
	}
	c := &call{server: s, request: m.request, now: s.cfg.Now()}
	if epoch := metadata.ValueFromIncomingContext(stream.Context(), EpochHeader); len(epoch) > 0 {
		c.epoch = epoch[0]
	}
	if source := metadata.ValueFromIncomingContext(stream.Context(), SourceHeader); len(source) > 0 {
		c.source = source[0]
	}
	answer, wantsBody := s.answer(c, func() (*extprocv3.ProcessingResponse, bool, error) { return c.onHeaders(stream.Context()) })
	if !wantsBody {
		s.duration.Observe(time.Since(start).Seconds())
	}
	if err := stream.Send(answer); err != nil {
		return fmt.Errorf("answer the headers: %w", err)
	}
	if !wantsBody {
		return nil
	}
	if err := m.receive(stream); err != nil {
		return nil //nolint:nilerr // the caller went away
	}
	start = time.Now()
	if !m.hasBody {
		return status.Error(codes.InvalidArgument, "the second message must be the request's body")
	}
	answer, _ = s.answer(c, func() (*extprocv3.ProcessingResponse, bool, error) { return c.onBody(stream.Context(), m.body) })
	s.duration.Observe(time.Since(start).Seconds())
	if err := stream.Send(answer); err != nil {
		return fmt.Errorf("answer the body: %w", err)
	}
	return nil
}

// answer runs one phase and makes an HTTP answer of a refusal.
func (s *Server) answer(c *call, phase func() (*extprocv3.ProcessingResponse, bool, error)) (*extprocv3.ProcessingResponse, bool) {
	answer, wantsBody, err := phase()
	if err != nil {
		refusal := asRefusal(err)
		if refusal.Kind == logos.Internal {
			s.log.Error("a call could not be decided", zap.String("request_id", string(c.id)), zap.Error(err))
		}
		s.decisions.WithLabelValues(refusal.Code).Inc()
		return c.refuse(refusal, err), false
	}
	if !wantsBody {
		s.decisions.WithLabelValues(c.outcome).Inc()
	}
	return answer, wantsBody
}
