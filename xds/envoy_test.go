package xds_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/envoy"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
	"github.com/ls1intum/edutelligence/logos/xds"
)

const apiKey = "lg-the-key"

// A plane is a real Envoy with the control plane of a gateway, on names that the test makes up.
type plane struct {
	t      *testing.T
	url    string // of the data plane
	names  *names
	book   *egress.Book
	server *xds.Server
	config atomic.Pointer[extproc.Snapshot]
	stats  string
}

// names answers lookups as a test says.
type names struct {
	mu      sync.Mutex
	answers map[string][]netip.Addr
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.answers[host]) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return n.answers[host], nil
}

func (n *names) set(host string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[host] = nil
	for _, a := range addresses {
		n.answers[host] = append(n.answers[host], netip.MustParseAddr(a))
	}
}

type noIntents struct{}

func (noIntents) Begin(logos.CallID, string, *logos.Decision, []byte) error { return nil }

func newPlane(t *testing.T) *plane {
	t.Helper()
	dir, err := os.MkdirTemp("", "lx") // short: it holds sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	listen, stats := free(t), free(t)
	p := &plane{t: t, url: "http://" + listen, stats: "http://" + stats, names: &names{answers: make(map[string][]netip.Addr)}}
	p.book = egress.NewBook(p.names, []string{listen, stats}, egress.Options{Every: 50 * time.Millisecond}, zap.NewNop(), prometheus.NewRegistry())
	o := options()
	o.Listen, o.Addresses, o.RequestHeaders, o.EpochHeader = listen, p.book.Addresses, extproc.RequestHeaders(), extproc.EpochHeader
	o.Namespace, o.RouteNamespace, o.CAFile = extproc.Namespace, extproc.RouteNamespace, os.DevNull
	admin := envoy.NewAdmin(stats)
	t.Cleanup(admin.Close)
	p.server = xds.NewServer(o, admin, func(string) bool { return false }, zap.NewNop(), prometheus.NewRegistry())
	p.serve(dir)
	p.startEnvoy(dir, stats)
	p.wait("a connected Envoy", p.server.AnyConnected)
	return p
}

// serve runs the gateway's parts.
func (p *plane) serve(dir string) {
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	ads, decisions := grpc.NewServer(), grpc.NewServer(extproc.ServerOptions(1<<20)...)
	p.server.Register(ads)
	extprocv3.RegisterExternalProcessorServer(decisions, extproc.New(p.config.Load, p.server.Active, noIntents{}, extproc.Config{}, zap.NewNop(), prometheus.NewRegistry()))
	for name, s := range map[string]*grpc.Server{"xds.sock": ads, "ext_proc.sock": decisions} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			p.t.Fatal(err)
		}
		parts.Go(func() { _ = s.Serve(l) })
	}
	parts.Go(func() { _ = p.server.Run(ctx) })
	parts.Go(func() {
		_ = p.book.Run(ctx, func() {
			if err := p.server.Readdress(); err != nil {
				p.t.Error(err)
			}
		})
	})
	p.t.Cleanup(func() {
		cancel()
		ads.Stop()
		decisions.Stop()
		parts.Wait()
	})
}

func (p *plane) startEnvoy(dir, stats string) {
	program, err := filepath.Abs("../.runtime/envoy/_bin/envoy")
	if err != nil {
		p.t.Fatal(err)
	}
	cmd, err := envoy.Command(envoy.Options{Program: program, RunDir: dir, Admin: stats, Concurrency: 1}, envoy.NewEpoch())
	if err != nil {
		p.t.Fatal(err)
	}
	started, ended, stop := make(chan error), make(chan struct{}), make(chan struct{})
	go func() { // Envoy ends with the thread that started it
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-stop
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		p.t.Fatalf("Envoy is missing: `make runtime` fetches it: %v", err)
	}
	p.t.Cleanup(func() { close(stop); <-ended })
}

// apply puts providers into force: pass-through to each, by its name.
func (p *plane) apply(allow logos.Egress, providers ...*logos.Provider) {
	p.t.Helper()
	r := logos.Resources{
		Projects: []*logos.Project{{ID: 1, Name: "app"}}, Hasher: logos.NewHasher(make([]byte, 32)), Providers: providers, Egress: allow,
		Profiles: []*logos.Profile{{ID: 1, ProjectID: 1, Name: "p", Passthrough: true}},
	}
	r.APIKeys = []*logos.APIKey{{ID: 1, ProjectID: 1, Role: logos.RoleMember, Hash: r.Hasher.APIKey(apiKey)}}
	for _, x := range providers {
		r.Profiles[0].Grants = append(r.Profiles[0].Grants, logos.Grant{Provider: x.ID})
	}
	c := config(p.t, r)
	p.book.Apply(p.t.Context(), allow, egress.Hosts(c.Targets()))
	if err := p.server.Apply(p.t.Context(), c); err != nil {
		p.t.Fatal(err)
	}
	snapshot, err := extproc.NewSnapshot(c, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.config.Store(snapshot)
	p.wait("a ready Envoy", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://")) // its workers begin a little later
		if err == nil {
			conn.Close()
		}
		return err == nil && p.server.Ready() == nil
	})
}

// wait polls for a state.
func (p *plane) wait(what string, reached func() bool) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !reached(); <-tick.C {
		if time.Now().After(deadline) {
			p.t.Fatalf("there is not %s", what)
		}
	}
}

// open begins a call to a provider.
func (p *plane) open(provider, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("logos-key", apiKey)
	req.Header.Set("x-logos-provider", provider)
	return http.DefaultTransport.RoundTrip(req)
}

// get makes a call and returns its status and answer.
func (p *plane) get(provider string) (int, string) {
	p.t.Helper()
	resp, err := p.open(provider, "/v1/x")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// eventually waits until calls to a provider are answered like that.
func (p *plane) eventually(provider string, status int, body string) {
	p.t.Helper()
	p.wait(fmt.Sprintf("%d %s from %s", status, body, provider), func() bool {
		got, text := p.get(provider)
		return got == status && strings.Contains(text, body)
	})
}

// A site is a provider at one address of this machine.
type site struct {
	net.Listener
	connections atomic.Int64
	more        chan struct{} // one more line for each stream
}

func (s *site) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		s.connections.Add(1)
	}
	return c, err
}

// newSite serves at an address; its answers name it.
func newSite(t *testing.T, address string) *site {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Listener: l, more: make(chan struct{})}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "at %s\n", address)
		for strings.HasSuffix(r.URL.Path, "/stream") {
			_ = http.NewResponseController(w).Flush()
			if _, ok := <-s.more; !ok {
				return
			}
			fmt.Fprintln(w, "more")
		}
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(s) }()
	t.Cleanup(func() {
		server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s
}

// free returns an address to listen on later. Its port is below those that the kernel gives to clients, one of
// which could have it by then.
func free(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("there is no free port")
	return ""
}

func allowed(ranges ...string) (e logos.Egress) {
	for _, r := range ranges {
		e.Ranges = append(e.Ranges, netip.MustParsePrefix(r))
	}
	return e
}

func (p *plane) provider(id logos.ProviderID, name, base string) *logos.Provider {
	return &logos.Provider{ID: id, Name: name, BaseURL: mustURL(p.t, base), Dialect: logos.DialectCompatible}
}

// A name first leads where providers may be, then where they may not. No call follows it.
func TestANameThatTurnsGetsNoCall(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	good := newSite(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(good.Addr().String())
	inside := newSite(t, "127.0.0.2:"+port)
	p.names.set("p.example", "127.0.0.1")
	p.apply(allowed("127.0.0.1/32"), p.provider(1, "p", "http://p.example:"+port))
	p.eventually("p", 200, "at 127.0.0.1")
	for _, turned := range [][]string{{"127.0.0.2"}, {"169.254.169.254"}, {"::ffff:127.0.0.2"}, {"10.0.0.1", "169.254.169.254"}, {"0.0.0.0"}} {
		p.names.set("p.example", turned...)
		p.eventually("p", 503, "no_deployment")
		for range 20 {
			if status, body := p.get("p"); status != 503 || !strings.Contains(body, "no_deployment") {
				t.Errorf("turned to %v, a call is answered %d %s", turned, status, body)
			}
		}
		p.names.set("p.example", "127.0.0.1")
		p.eventually("p", 200, "at 127.0.0.1")
	}
	p.names.set("p.example", "127.0.0.2", "127.0.0.1") // of both, only one is called
	for range 50 {
		p.eventually("p", 200, "at 127.0.0.1")
	}
	if n := inside.connections.Load(); n != 0 {
		t.Errorf("%d connections were made to where the name turned", n)
	}
}

func TestAStreamOutlivesAChangeOfAddresses(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	one := newSite(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(one.Addr().String())
	newSite(t, "127.0.0.3:"+port)
	p.names.set("p.example", "127.0.0.1")
	p.apply(allowed("127.0.0.0/8"), p.provider(1, "p", "http://p.example:"+port))
	resp, err := p.open("p", "/v1/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stream := bufio.NewReader(resp.Body)
	next := func() string {
		t.Helper()
		line, err := stream.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream broke off: %v", err)
		}
		return line
	}
	next()
	for _, step := range []struct {
		addresses []string
		status    int
		body      string
	}{
		{[]string{"127.0.0.3"}, 200, "at 127.0.0.3"},
		{[]string{"169.254.169.254"}, 503, "no_deployment"},
		{[]string{"127.0.0.9", "127.0.0.3"}, 200, "at 127.0.0.3"}, // nobody is at the first
		{[]string{"127.0.0.1"}, 200, "at 127.0.0.1"},
	} {
		p.names.set("p.example", step.addresses...)
		p.eventually("p", step.status, step.body)
		one.more <- struct{}{}
		if line := next(); line != "more\n" {
			t.Errorf("with the addresses %v, the stream goes on with %q", step.addresses, line)
		}
	}
	p.apply(logos.Egress{}, p.provider(1, "p", "http://p.example:"+port)) // no longer allowed
	p.eventually("p", 503, "no_deployment")
	one.more <- struct{}{}
	next()
	close(one.more)
	if rest, err := io.ReadAll(stream); err != nil || len(rest) != 0 {
		t.Errorf("the stream ends with %q, %v", rest, err)
	}
}

// A header that another provider authenticates with changes every cluster. Envoy must not wait for addresses
// that it has, as it does over delta ADS where a new version of a cluster asks for them by the same name.
func TestNewVersionsOfClustersAreActiveAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	_, port, _ := net.SplitHostPort(newSite(t, "127.0.0.1:0").Addr().String())
	p.names.set("p.example", "127.0.0.1")
	base := "http://p.example:" + port
	providers := []*logos.Provider{p.provider(1, "one", base)}
	p.apply(allowed("127.0.0.0/8"), providers...)
	p.eventually("one", 200, "at 127.0.0.1")
	for i := range 5 {
		next := p.provider(logos.ProviderID(i+2), fmt.Sprintf("p%d", i+2), base)
		next.AuthHeader = fmt.Sprintf("x-header-%d", i)
		providers = append(providers, next)
		begin := time.Now()
		p.apply(allowed("127.0.0.0/8"), providers...)
		if err := p.server.Ready(); err != nil || time.Since(begin) > time.Second {
			t.Fatalf("change %d took %v: %v", i, time.Since(begin), err)
		}
		for _, x := range providers {
			if status, body := p.get(x.Name); status != 200 {
				t.Errorf("after change %d, a call to %s is answered %d %s", i, x.Name, status, body)
			}
		}
	}
}

func TestHoldsAClusterThatNoProfileGrants(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	target := logos.ProviderTarget(p.provider(7, "tried", "http://127.0.0.1:1"), &logos.Credential{ID: 1, Provider: 7, Secret: "sk-1"})
	if _, err := p.server.Hold(t.Context(), target); logos.KindOf(err) != logos.Unavailable {
		t.Errorf("without a configuration, holding gives %v", err)
	}
	p.apply(allowed("127.0.0.0/8"))
	p.book.Look(t.Context(), "127.0.0.1", "1")
	var release []func()
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done, err := p.server.Hold(ctx, target)
		if err != nil || !p.server.Active(target.Cluster) {
			t.Fatalf("what is held is not active: %v", err)
		}
		release = append(release, done)
	}
	release[0]()
	p.apply(allowed("127.0.0.0/8"))
	if !p.server.Active(target.Cluster) {
		t.Error("what is held goes with another configuration, or with the first who lets it go")
	}
	release[1]()
	p.wait("an end of what nobody holds", func() bool { return !p.server.Active(target.Cluster) })
	nowhere := logos.ProviderTarget(p.provider(8, "nowhere", "http://nowhere.example"), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := p.server.Hold(ctx, nowhere); logos.KindOf(err) != logos.Unavailable {
		t.Errorf("a host without an address gives %v", err)
	}
}
