package xds

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ls1intum/edutelligence/logos"
)

// applyTimeout bounds how long a change waits for Envoy.
const applyTimeout = 2 * time.Second

// Admin is what the server asks of Envoy's own admin interface.
type Admin interface {
	// Listening says whether the data plane's listener is up.
	Listening(ctx context.Context) (bool, error)
	// Clusters returns the versions of the clusters that Envoy has taken, warmed or not, by name.
	Clusters(ctx context.Context) (map[string]string, error)
}

// A Server pushes configurations to the Envoy beside it. Its methods may be called from any goroutine.
type Server struct {
	opt   Options
	admin Admin
	inUse func(cluster string) bool
	log   *zap.Logger
	cache cachev3.SnapshotCache
	ads   serverv3.Server

	active  atomic.Pointer[map[string]struct{}]
	metrics metrics
	wake    chan struct{}

	mu        sync.Mutex
	assembler assembler
	config    *logos.Config
	extra     map[string]*lingering
	held      map[string]*holding // see Hold
	streams   map[int64]*ledger
	current   *ledger // of the stream that was opened last; nil: there was none yet
	listeners map[string]item[*listenerv3.Listener]
	pushed    *assembly // nil: none yet
	snapshot  *cachev3.Snapshot
	pushes    int64         // counts pushes: the version that Envoy sees
	stale     bool          // the ledger has changed since it was examined
	said      bool          // Envoy has acknowledged or refused all of the last push
	rejected  error         // something of the last push was refused
	whenDone  chan struct{} // closed when Envoy has said all, or refused something
}

// metrics count what goes to Envoy and what it refuses.
type metrics struct {
	nacks, resources, bytes *prometheus.CounterVec
}

// NewServer makes a server. inUse says whether a call under way can still name a cluster.
func NewServer(opt Options, admin Admin, inUse func(cluster string) bool, log *zap.Logger, reg prometheus.Registerer) *Server {
	s := &Server{
		opt: opt, admin: admin, inUse: inUse, log: log,
		cache:     cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil),
		wake:      make(chan struct{}, 1),
		assembler: assembler{o: opt},
		extra:     make(map[string]*lingering), held: make(map[string]*holding),
		streams: make(map[int64]*ledger), listeners: make(map[string]item[*listenerv3.Listener]), whenDone: make(chan struct{}),
	}
	s.active.Store(&map[string]struct{}{})
	s.ads = serverv3.NewServer(context.Background(), s.cache, s.callbacks())
	s.measure(reg)
	return s
}

func (s *Server) measure(reg prometheus.Registerer) {
	counter := func(name, help string) *prometheus.CounterVec {
		return promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"type"})
	}
	s.metrics = metrics{
		nacks:     counter("logos_xds_nacks_total", "Resources that Envoy refused, by type."),
		resources: counter("logos_xds_pushed_resources_total", "Resources sent to Envoy or taken from it, by type."),
		bytes:     counter("logos_xds_pushed_bytes_total", "Bytes of the messages with these resources, by type."),
	}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "logos_xds_active_clusters", Help: "Clusters that Envoy can use."},
		func() float64 { return float64(len(*s.active.Load())) })
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "logos_xds_connected", Help: "1 if an Envoy is connected."},
		func() float64 {
			if s.AnyConnected() {
				return 1
			}
			return 0
		})
}

// Register adds the aggregated discovery service to a gRPC server.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s.ads)
}

// Active says whether Envoy can use a cluster now.
func (s *Server) Active(cluster string) bool {
	_, ok := (*s.active.Load())[cluster]
	return ok
}

// Ready is nil if Envoy has accepted and warmed the last configuration.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.config == nil:
		return errors.New("there is no configuration yet")
	case len(s.streams) == 0:
		return errors.New("no Envoy is connected")
	case s.rejected != nil:
		return s.rejected
	case !s.said || !s.current.listening:
		return errors.New("the configuration is not warmed in Envoy yet")
	}
	return nil
}

// Apply pushes a configuration. It returns when Envoy has accepted and warmed it, has refused it (an
// error), or after two seconds; without an Envoy, or where nothing is new for it, at once. Targets that are
// gone stay as long as calls may name them.
func (s *Server) Apply(ctx context.Context, cfg *logos.Config) error {
	s.mu.Lock()
	s.linger(cfg)
	s.config = cfg
	news, err := s.push()
	done, connected := s.whenDone, len(s.streams) > 0
	s.mu.Unlock()
	if err != nil || !connected || !news {
		return err
	}
	timer := time.NewTimer(applyTimeout)
	defer timer.Stop()
	select {
	case <-done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.rejected
	case <-timer.C:
		s.log.Warn("Envoy still warms the configuration", zap.Int64("revision", cfg.Revision))
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Readdress pushes where providers are now: clusters stay, with their connections and calls. A cluster that
// loses its last address is not used from this moment on.
func (s *Server) Readdress() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config == nil {
		return nil
	}
	_, err := s.push()
	return err
}

// push tells every connected Envoy what has changed, and says whether something is new that is worth
// waiting for. s.mu is held.
func (s *Server) push() (news bool, err error) {
	set, err := s.assembler.assemble(s.targets())
	if err != nil {
		return false, err
	}
	differs, news := set.since(s.pushed)
	if !differs {
		s.pushed = set
		return false, nil
	}
	s.pushes++
	s.pushed, s.snapshot = set, set.snapshot(s.version())
	for _, l := range s.streams {
		if err := s.send(l.epoch); err != nil {
			return false, err
		}
	}
	if news {
		s.unsettle()
	}
	s.examine()
	s.signal()
	return news, nil
}

func (s *Server) version() string {
	return strconv.FormatInt(s.config.Revision, 10) + "." + strconv.FormatInt(s.pushes, 10)
}

// send gives one Envoy process the last push. s.mu is held.
func (s *Server) send(epoch string) error {
	listener, ok := s.listeners[epoch]
	if !ok {
		var err error
		if listener, err = s.assembler.listenerFor(epoch); err != nil {
			return err
		}
		s.listeners[epoch] = listener
	}
	if err := s.cache.SetSnapshot(context.Background(), epoch, withListener(s.snapshot, listener, s.version())); err != nil {
		return fmt.Errorf("push revision %d: %w", s.config.Revision, err)
	}
	return nil
}

// unsettle begins the wait for what was pushed. s.mu is held.
func (s *Server) unsettle() {
	s.said = false
	if closed(s.whenDone) {
		s.whenDone = make(chan struct{})
	}
}

func (s *Server) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
