package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/accesslog"
	"github.com/ls1intum/edutelligence/logos/api"
	"github.com/ls1intum/edutelligence/logos/backup"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/demo"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/envoy"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
	"github.com/ls1intum/edutelligence/logos/health"
	"github.com/ls1intum/edutelligence/logos/inflight"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/xds"
)

// Names in the run directory, which is Envoy's working directory.
const (
	xdsSocket     = "xds.sock"
	extProcSocket = "ext_proc.sock"
	addressesFile = "addresses.json"
	demoKeyFile   = "demo.key" // in the data directory
)

// A gateway is the running parts of `logos serve`.
type gateway struct {
	settings *settings
	log      *zap.Logger
	registry *prometheus.Registry
	store    *store.Store
	calls    *inflight.Calls
	envoy    *envoy.Admin
	egress   *egress.Book
	health   *health.Monitor
	xds      *xds.Server
	probes   extproc.Probes
	decider  *extproc.Server
	force    *force
	budgets  *budget.Counters
	seeded   atomic.Bool // the demo is there, if it shall be
	token    api.SetupToken
	service  *api.Service
}

func serve(ctx context.Context, s *settings, log *zap.Logger) error {
	if s.databaseURL == "" {
		return finalError{errors.New("DATABASE_URL is not set: `logos up` brings a Postgres of its own, `logos serve` needs one")}
	}
	keys, err := s.masterKeys()
	if err != nil {
		return finalError{err}
	}
	if err := os.MkdirAll(s.runDir, 0o700); err != nil {
		return fmt.Errorf("make the run directory: %w", err)
	}
	g := &gateway{settings: s, log: log, registry: prometheus.NewRegistry(), token: api.NewSetupToken()}
	g.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	g.force = newForce(g.route, log, g.registry)
	if g.store, err = openStore(ctx, s.databaseURL, keys, log); err != nil {
		return err
	}
	defer g.store.Close()
	ended := func(ids ...logos.CallID) { g.budgets.Release(ids...) }
	if g.calls, err = inflight.Open(ctx, s.runDir, inflight.Options{Ended: ended}, log, g.registry); err != nil {
		return err
	}
	defer g.calls.Close()
	g.envoy = envoy.NewAdmin(s.envoyAdmin)
	defer g.envoy.Close()
	g.egress = egress.NewBook(net.DefaultResolver, []string{s.listen, s.adminListen, s.envoyAdmin},
		egress.Options{Linger: s.maxCall, File: filepath.Join(s.runDir, addressesFile)}, log, g.registry)
	g.health = health.New(s.firstByte, log, g.registry)
	g.xds = xds.NewServer(g.xdsOptions(), g.envoy, g.calls.Uses, log, g.registry)
	g.service = api.NewService(g.store, g.force.wait, g.egress)
	return g.run(ctx)
}

// openStore connects, migrates and unlocks.
func openStore(ctx context.Context, url string, keys *store.Keyring, log *zap.Logger) (*store.Store, error) {
	s, err := store.Open(ctx, url, log)
	if err != nil {
		return nil, err
	}
	if err := s.Migrate(ctx); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.Unlock(ctx, keys); err != nil {
		s.Close()
		if errors.Is(err, store.ErrWrongKey) {
			err = finalError{err}
		}
		return nil, err
	}
	return s, nil
}

func (g *gateway) xdsOptions() xds.Options {
	s := g.settings
	o := xds.Options{
		Listen: s.listen, ExtProcSocket: extProcSocket, TrustedHops: uint32(s.trustedHops), Addresses: g.egress.Addresses,
		MaxBodyBytes: s.maxBody, MaxResponseBytes: s.maxResponse,
		FirstByteTimeout: s.firstByte, IdleTimeout: s.idle, MaxDuration: s.maxCall,
		CAFile: s.caFile, CertFile: s.certFile, KeyFile: s.keyFile,
		CallFormat: accesslog.CallFormat(extproc.Namespace + ":" + extproc.DecisionKey), AttemptFormat: accesslog.AttemptFormat(), LiveFormat: accesslog.LiveFormat(),
		StreamFields: dialect.StreamFields(), StreamKinds: dialect.StreamKinds(), AnswerFields: dialect.AnswerFields(),
		NumberNamespace: accesslog.NumberNamespace, TextNamespace: accesslog.TextNamespace,
		RequestHeaders: extproc.RequestHeaders(), EpochHeader: extproc.EpochHeader, SourceHeader: extproc.SourceHeader,
		Namespace: extproc.Namespace, RouteNamespace: extproc.RouteNamespace, AgainMark: rand.Text(),
	}
	if s.logosdbOnDataPlane {
		o.AdminRoute, o.AdminTLS = s.adminListen, s.adminCertFile != ""
	}
	return o
}

// run starts the parts and waits for their end: the servers first, the reader of the access log last.
func (g *gateway) run(ctx context.Context) error {
	id, err := gatewayID(g.settings)
	if err != nil {
		return err
	}
	if err := g.openBudgets(ctx, id); err != nil {
		return err
	}
	servers, err := g.listen()
	if err != nil {
		return err
	}
	defer servers.close()
	parts, ctx := errgroup.WithContext(ctx)
	teller := budget.NewTeller(g.store, g.force.budgets, newHooks(g.egress).post, g.log, g.registry)
	reader := accesslog.New(g.settings.runDir, id, newRatingStore(g.store, g.force, g.budgets, teller, g.registry), g.calls, envoys{g.xds, g.envoy}, accesslog.Options{RotateBytes: g.settings.rotate, Settled: g.settled}, g.log, g.registry)
	parts.Go(func() error { return teller.Run(ctx) })
	watcher := store.NewWatcher(g.store, g.registry)
	parts.Go(func() error { return g.xds.Run(ctx) })
	parts.Go(func() error { return g.egress.Run(ctx, g.readdress) })
	parts.Go(func() error { return watcher.Run(ctx, g.force.take) })
	parts.Go(func() error { return g.force.Run(ctx) })
	parts.Go(func() error { return reader.Run(ctx) })
	parts.Go(func() error { return accesslog.NewLive(g.settings.runDir, g.health.Attempt, g.log).Run(ctx) })
	parts.Go(func() error { return g.health.Run(ctx) })
	parts.Go(func() error { return g.budgets.Run(ctx) })
	parts.Go(func() error { return g.calls.Maintain(ctx, g.settings.minFree) })
	parts.Go(func() error { return g.partitions(ctx) })
	parts.Go(func() error { return g.retain(ctx) })
	parts.Go(func() error { return g.total(ctx) })
	parts.Go(func() error { return g.watchKey(ctx) })
	parts.Go(func() error { return g.seedDemo(ctx) })
	parts.Go(func() error { return g.tellSetup(ctx) })
	servers.run(ctx, parts)
	return parts.Wait()
}

// settled tells how a call ended to those who learn from it.
func (g *gateway) settled(c *logos.Call) {
	g.health.Settled(c)
	g.decider.Served(c)
}

// route brings Envoy what calls may be sent to.
func (g *gateway) route(ctx context.Context, config *logos.Config) {
	g.health.Apply(config)
	g.egress.Apply(ctx, config.Egress, egress.Hosts(config.Targets()))
	if err := g.xds.Apply(ctx, config); err != nil {
		// Decisions go on with what Envoy has: they use clusters that it reports active alone.
		g.log.Error("Envoy does not have the whole configuration", zap.Int64("revision", config.Revision), zap.Error(err))
	}
}

// inactive says why Envoy can't use a target now.
func (g *gateway) inactive(t *logos.Target) string {
	switch found := g.egress.Find(t.Provider.Address()); {
	case len(found.Addresses) > 0:
		return policy.NotActive
	case found.Refused != nil:
		return policy.HostNotAllowed
	}
	return policy.HostNotResolved
}

// readdress tells Envoy where providers are now.
func (g *gateway) readdress() {
	if err := g.xds.Readdress(); err != nil {
		g.log.Error("Envoy does not have the providers' present addresses", zap.Error(err))
	}
}

// envoys is what the reader of the access log asks of Envoy.
type envoys struct {
	*xds.Server
	*envoy.Admin
}

// partitions makes tomorrow's partitions today.
func (g *gateway) partitions(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := g.store.EnsurePartitions(ctx, time.Now(), 3); err != nil && ctx.Err() == nil {
			g.log.Warn("partitions for the coming days could not be made; calls go to the default one", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// seedDemo keeps the demo's key in the data directory, where `logos up` finds it.
func (g *gateway) seedDemo(ctx context.Context) error {
	defer g.seeded.Store(true)
	if g.settings.demoURL == "" {
		return nil
	}
	path := filepath.Join(g.settings.dataDir, demoKeyFile)
	known, _ := os.ReadFile(path)
	key, err := g.service.Demo(ctx, g.settings.demoURL, demo.Model, logos.Secret(strings.TrimSpace(string(known))))
	if err != nil {
		if ctx.Err() == nil {
			g.log.Error("the demo could not be set up", zap.Error(err))
		}
		return nil
	}
	if key == "" {
		os.Remove(path)
		return nil
	}
	if err := os.WriteFile(path, []byte(string(key)+"\n"), 0o600); err != nil {
		g.log.Error("the demo's key could not be kept", zap.Error(err))
	}
	return nil
}

// tellSetup logs the set-up token while nobody has set the gateway up.
func (g *gateway) tellSetup(ctx context.Context) error {
	done, err := g.store.IsSetUp(ctx)
	if err == nil && !done {
		g.log.Info("not set up yet: POST /logosdb/setup from this machine, or from another with this token in the header X-Logos-Setup-Token",
			zap.String("setup_token", string(g.token)))
	}
	return nil
}

// gatewayID names this gateway in what it records; it stays with the run directory, whose logs it names.
func gatewayID(s *settings) (string, error) {
	id := knownGatewayID(s)
	if id != "" {
		return id, nil
	}
	id = strings.ToLower(rand.Text())
	if err := os.WriteFile(filepath.Join(s.runDir, backup.IDFile), []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the gateway's id: %w", err)
	}
	return id, nil
}

// knownGatewayID returns "" where no gateway ran yet.
func knownGatewayID(s *settings) string {
	if s.gatewayID != "" {
		return s.gatewayID
	}
	text, _ := os.ReadFile(filepath.Join(s.runDir, backup.IDFile))
	return strings.TrimSpace(string(text))
}

// listeners is what the gateway serves.
type listeners struct {
	g                       *gateway
	xds, extProc            net.Listener
	admin                   net.Listener
	xdsServer, extProcServe *grpc.Server
}

func (g *gateway) listen() (*listeners, error) {
	l := &listeners{g: g}
	var err error
	if l.xds, err = listenUnix(filepath.Join(g.settings.runDir, xdsSocket)); err != nil {
		return nil, err
	}
	if l.extProc, err = listenUnix(filepath.Join(g.settings.runDir, extProcSocket)); err != nil {
		return nil, err
	}
	if l.admin, err = net.Listen("tcp", g.settings.adminListen); err != nil {
		return nil, fmt.Errorf("listen for the admin API (LOGOS_ADMIN_LISTEN): %w", err)
	}
	l.xdsServer = grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	g.xds.Register(l.xdsServer)
	l.extProcServe = grpc.NewServer(extproc.ServerOptions(g.settings.maxBody)...)
	g.decider = extproc.New(g.force.present.Load, g.xds.Active, g.calls,
		extproc.Config{Budgets: g.budgets, MaxBodyBytes: g.settings.maxBody, MaxDuration: g.settings.maxCall, FirstByteTimeout: g.settings.firstByte, IdleTimeout: g.settings.idle, Probes: &g.probes, Inactive: g.inactive,
			State: g.health.State, Peek: g.health.Peek, Claim: g.health.Claim, OutputTokens: g.health.OutputTokens, Sent: g.health.Begin}, g.log, g.registry)
	extprocv3.RegisterExternalProcessorServer(l.extProcServe, g.decider)
	return l, nil
}

// listenUnix listens on a socket that this user alone can reach, in the place of one left behind.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove an old socket: %w", err)
	}
	// Bound under another name and renamed, so that it's never reachable with wider permissions.
	hidden := path + ".new"
	if err := os.Remove(hidden); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove an old socket: %w", err)
	}
	listener, err := net.Listen("unix", hidden)
	if err != nil {
		return nil, fmt.Errorf("listen on a socket in the run directory (its path must be short; see LOGOS_RUN_DIR): %w", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(hidden, 0o600), os.Rename(hidden, path)); err != nil {
		listener.Close()
		return nil, fmt.Errorf("place a socket: %w", err)
	}
	return listener, nil
}

func (l *listeners) close() {
	l.xdsServer.Stop()
	l.extProcServe.Stop()
	l.admin.Close()
}

// run serves until ctx ends.
func (l *listeners) run(ctx context.Context, parts *errgroup.Group) {
	serveGRPC := func(server *grpc.Server, listener net.Listener) func() error {
		return func() error {
			if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return fmt.Errorf("serve Envoy: %w", err)
			}
			return nil
		}
	}
	parts.Go(serveGRPC(l.xdsServer, l.xds))
	parts.Go(serveGRPC(l.extProcServe, l.extProc))
	parts.Go(func() error { return l.g.serveAdmin(ctx, l.admin) })
	parts.Go(func() error {
		<-ctx.Done()
		l.xdsServer.Stop()
		l.extProcServe.Stop()
		return nil
	})
}
