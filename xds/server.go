package xds

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ls1intum/edutelligence/logos"
)

const (
	// applyTimeout bounds how long a change waits for Envoy: one provider whose name does not resolve must
	// not hold up all others. Its cluster becomes active when it can.
	applyTimeout = 2 * time.Second
	pollEvery    = 10 * time.Millisecond // while something is pending
	idlePoll     = time.Second           // for clusters that may go
	// lingerAtLeast keeps a removed cluster for calls that were decided but not noted yet.
	lingerAtLeast = 5 * time.Second
)

// Admin is what the server asks of Envoy's own admin interface.
type Admin interface {
	// Progress returns the version of clusters that Envoy accepted last, and the names of those that
	// still warm.
	Progress(ctx context.Context) (clusters string, warming []string, listening bool, err error)
	// Active returns the names of the clusters that Envoy has taken and warmed.
	Active(ctx context.Context) ([]string, error)
	// Vacant returns the stat names of clusters without a host.
	Vacant(ctx context.Context) ([]string, error)
}

// A Server pushes configurations to the Envoy beside it. Its methods may be called from any goroutine.
type Server struct {
	opt   Options
	admin Admin
	inUse func(cluster string) bool
	log   *zap.Logger
	cache cachev3.SnapshotCache
	ads   serverv3.Server

	active atomic.Pointer[map[string]struct{}]
	nacks  *prometheus.CounterVec
	wake   chan struct{}

	mu       sync.Mutex
	streams  map[int64]string // epoch of each open stream
	config   *logos.Config
	extra    map[string]*lingering
	held     map[string]*holding // see Hold
	places   []place             // of the clusters last pushed, see Readdress
	pushes   int64               // counts pushes: the version that Envoy sees
	clusters string              // version of the last push that changed clusters
	names    map[string]string   // of the clusters last pushed, with their stat names
	vacant   bool                // some cluster had no host when Envoy was asked last
	rejected error               // of the last push, until the next
	settled  bool                // Envoy has all of the last push
	whenDone chan struct{}       // closed when settled or rejected
	lastHash uint64
}

// lingering is a target that is no longer configured.
type lingering struct {
	target *logos.Target
	since  time.Time
}

// NewServer makes a server. inUse says whether a call under way can still name a cluster.
func NewServer(opt Options, admin Admin, inUse func(cluster string) bool, log *zap.Logger, reg prometheus.Registerer) *Server {
	s := &Server{
		opt: opt, admin: admin, inUse: inUse, log: log,
		cache:   cachev3.NewSnapshotCache(true, cachev3.IDHash{}, nil),
		wake:    make(chan struct{}, 1),
		streams: make(map[int64]string), extra: make(map[string]*lingering), held: make(map[string]*holding), whenDone: make(chan struct{}),
		nacks: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "logos_xds_nacks_total", Help: "Resources that Envoy refused, by type.",
		}, []string{"type"}),
	}
	s.active.Store(&map[string]struct{}{})
	s.ads = serverv3.NewServer(context.Background(), s.cache, s.callbacks())
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "logos_xds_active_clusters", Help: "Clusters that Envoy can use."},
		func() float64 { return float64(len(*s.active.Load())) })
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "logos_xds_connected", Help: "1 if an Envoy is connected."},
		func() float64 {
			if s.AnyConnected() {
				return 1
			}
			return 0
		})
	return s
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

// Connected says whether the Envoy process with that epoch is connected.
func (s *Server) Connected(epoch string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.streams {
		if e == epoch {
			return true
		}
	}
	return false
}

// AnyConnected says whether some Envoy is connected.
func (s *Server) AnyConnected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams) > 0
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
	case !s.settled:
		return errors.New("the configuration is not warmed in Envoy yet")
	}
	return nil
}

// Apply pushes a configuration. It returns when Envoy has accepted and warmed it, has refused it (an
// error), or after two seconds; without an Envoy, at once. Targets that are gone stay as long as calls
// may name them.
func (s *Server) Apply(ctx context.Context, cfg *logos.Config) error {
	s.mu.Lock()
	s.linger(cfg)
	s.config = cfg
	err := s.push()
	done, connected := s.whenDone, len(s.streams) > 0
	s.mu.Unlock()
	if err != nil || !connected {
		return err
	}
	s.signal()
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

// linger keeps what the next configuration lacks.
func (s *Server) linger(next *logos.Config) {
	kept := make(map[string]bool)
	for _, t := range next.Targets() {
		kept[t.Cluster] = true
		delete(s.extra, t.Cluster)
	}
	if s.config == nil {
		return
	}
	for _, t := range s.config.Targets() {
		if !kept[t.Cluster] && s.extra[t.Cluster] == nil {
			s.extra[t.Cluster] = &lingering{t, time.Now()}
		}
	}
}

// push makes the resources anew for every connected Envoy. s.mu is held.
func (s *Server) push() error {
	var extra []*logos.Target
	for _, l := range s.extra {
		extra = append(extra, l.target)
	}
	slices.SortFunc(extra, func(x, y *logos.Target) int { return strings.Compare(x.Cluster, y.Cluster) })
	extra = append(s.heldTargets(), extra...)
	s.pushes++
	version := strconv.FormatInt(s.config.Revision, 10) + "." + strconv.FormatInt(s.pushes, 10)
	for _, epoch := range s.epochs() {
		if err := s.pushTo(epoch, extra, version); err != nil {
			return err
		}
	}
	if s.settled || s.rejected != nil {
		s.whenDone = make(chan struct{})
	}
	s.settled, s.rejected = false, nil
	s.closeVacant()
	return nil
}

func (s *Server) pushTo(epoch string, extra []*logos.Target, version string) error {
	r, err := Build(s.config, extra, s.opt, epoch)
	if err != nil {
		return err
	}
	hash, err := clustersHash(r)
	if err != nil {
		return err
	}
	if hash != s.lastHash || s.clusters == "" {
		s.lastHash, s.clusters = hash, version
	}
	s.names = make(map[string]string, len(r.Clusters))
	for _, c := range r.Clusters {
		s.names[c.GetName()] = c.GetAltStatName()
	}
	s.places = r.places
	snapshot := &cachev3.Snapshot{}
	snapshot.Resources[types.Cluster] = cachev3.NewResources(s.clusters, asResources(r.Clusters))
	snapshot.Resources[types.Endpoint] = cachev3.NewResources(version, asResources(r.Endpoints))
	snapshot.Resources[types.Listener] = cachev3.NewResources(version, asResources(r.Listeners))
	snapshot.Resources[types.Route] = cachev3.NewResources(version, asResources(r.Routes))
	snapshot.Resources[types.Secret] = cachev3.NewResources(version, asResources(r.Secrets))
	if err := snapshot.Consistent(); err != nil {
		return fmt.Errorf("the resources of revision %d contradict one another: %w", s.config.Revision, err)
	}
	if err := snapshot.ConstructVersionMap(); err != nil { // now: Readdress reads it
		return fmt.Errorf("the resources of revision %d have no versions: %w", s.config.Revision, err)
	}
	if err := s.cache.SetSnapshot(context.Background(), epoch, snapshot); err != nil {
		return fmt.Errorf("push revision %d: %w", s.config.Revision, err)
	}
	return nil
}

func asResources[T types.Resource](list []T) []types.Resource {
	out := make([]types.Resource, len(list))
	for i, r := range list {
		out[i] = r
	}
	return out
}

func (s *Server) epochs() []string {
	var out []string
	for _, e := range s.streams {
		if !slices.Contains(out, e) {
			out = append(out, e)
		}
	}
	return out
}

func (s *Server) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// callbacks tell which Envoys are there and what they refuse.
func (s *Server) callbacks() serverv3.Callbacks {
	return serverv3.CallbackFuncs{
		DeltaStreamClosedFunc: func(id int64, _ *corev3.Node) { s.closed(id) },
		StreamDeltaRequestFunc: func(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			s.opened(id, r.GetNode().GetId())
			if r.GetErrorDetail() != nil {
				s.refused(r)
			}
			return nil
		},
	}
}

func (s *Server) opened(id int64, epoch string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.streams[id]; known || epoch == "" {
		return
	}
	s.streams[id] = epoch
	s.log.Info("Envoy connected", zap.String("epoch", epoch))
	if s.config == nil {
		return
	}
	s.clusters = "" // this process has nothing yet
	if err := s.push(); err != nil {
		s.log.Error("no configuration for Envoy", zap.Error(err))
	}
	s.signal()
}

func (s *Server) closed(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch := s.streams[id]
	delete(s.streams, id)
	if epoch != "" && !slices.Contains(s.epochs(), epoch) {
		s.cache.ClearSnapshot(epoch)
		s.log.Warn("Envoy disconnected", zap.String("epoch", epoch))
	}
}

func (s *Server) refused(r *discoveryv3.DeltaDiscoveryRequest) {
	kind := r.GetTypeUrl()[strings.LastIndex(r.GetTypeUrl(), ".")+1:]
	s.nacks.WithLabelValues(kind).Inc()
	reason := r.GetErrorDetail().GetMessage()
	s.log.Error("Envoy refused a resource", zap.String("type", kind), zap.String("reason", reason))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected = fmt.Errorf("a %s was refused by Envoy: %s", strings.ToLower(kind), reason)
	s.finish()
}

// finish wakes who waits for the last push. s.mu is held.
func (s *Server) finish() {
	select {
	case <-s.whenDone:
	default:
		close(s.whenDone)
	}
}
