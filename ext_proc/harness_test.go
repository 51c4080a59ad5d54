package extproc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// A begun intent is what the server noted of a call.
type begun struct {
	id       logos.CallID
	epoch    string
	decision *logos.Decision
	encoded  string
}

// fakeIntents keeps what is begun, and refuses on demand.
type fakeIntents struct {
	mu     sync.Mutex
	begun  []begun
	err    error
	before func() // is called first, may be nil
}

func (i *fakeIntents) Begin(id logos.CallID, epoch string, d *logos.Decision, encoded []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.before != nil {
		i.before()
	}
	if i.err != nil {
		return i.err
	}
	i.begun = append(i.begun, begun{id, epoch, d, string(encoded)})
	return nil
}

func (i *fakeIntents) all() []begun {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]begun(nil), i.begun...)
}

// now is the time of all decisions.
var now = time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)

const (
	key     = "lg-the-key"
	callID  = "4c3648d3-45cf-4a39-9983-4ec0041b40d3"
	epoch   = "1caf6f1c-bb7a-4c52-8066-d8d21f40fa8a"
	chat    = "/v1/chat/completions"
	maxBody = 4096
)

// A gateway is a server with what it depends on.
type gateway struct {
	t        testing.TB
	current  func() *extproc.Snapshot
	inactive map[string]bool // clusters that are not ready
	state    func(*logos.Target, int64) policy.State
	source   string // of the calls, as Envoy tells it
	intents  *fakeIntents
	probes   extproc.Probes
	reason   string // why clusters are not ready
	registry *prometheus.Registry
	server   *extproc.Server
	client   extprocv3.ExternalProcessorClient
	handled  chan error // what the handler of each stream returned
}

// newGateway serves a configuration; nil means that there is none yet.
func newGateway(t testing.TB, config *logos.Config) *gateway {
	t.Helper()
	return newGatewayWith(t, config, nil)
}

// newGatewayWith serves a configuration by other options than the usual ones.
func newGatewayWith(t testing.TB, config *logos.Config, edit func(*extproc.Config)) *gateway {
	t.Helper()
	g := &gateway{t: t, source: "192.0.2.1", intents: &fakeIntents{}, registry: prometheus.NewRegistry(), inactive: make(map[string]bool), reason: policy.NotActive, handled: make(chan error, 100)}
	present := snapshot(t, config)
	g.current = func() *extproc.Snapshot { return present }
	server := grpc.NewServer(append(extproc.ServerOptions(maxBody), grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		err := handler(srv, ss)
		g.handled <- err
		return err
	}))...)
	cfg := extproc.Config{MaxBodyBytes: maxBody, MaxDuration: time.Hour, Now: func() time.Time { return now }, Probes: &g.probes, Inactive: func(*logos.Target) string { return g.reason },
		State: func(t *logos.Target, in int64) policy.State {
			if g.state == nil {
				return policy.State{}
			}
			return g.state(t, in)
		}}
	if edit != nil {
		edit(&cfg)
	}
	g.server = extproc.New(
		func() *extproc.Snapshot { return g.current() }, func(cluster string) bool { return !g.inactive[cluster] }, g.intents,
		cfg, zap.NewNop(), g.registry)
	extprocv3.RegisterExternalProcessorServer(server, g.server)
	listener := bufconn.Listen(1 << 20)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	g.client = extprocv3.NewExternalProcessorClient(conn)
	return g
}

// snapshot puts a configuration in force; nil: there is none.
func snapshot(t testing.TB, config *logos.Config) *extproc.Snapshot {
	t.Helper()
	if config == nil {
		return nil
	}
	s, err := extproc.NewSnapshot(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open starts the stream of a request, as Envoy does.
func (g *gateway) open(ctx context.Context) extprocv3.ExternalProcessor_ProcessClient {
	g.t.Helper()
	stream, err := g.client.Process(metadata.AppendToOutgoingContext(ctx, extproc.EpochHeader, epoch, extproc.SourceHeader, g.source))
	if err != nil {
		g.t.Fatal(err)
	}
	return stream
}

// headers makes the first message: method, path, then other headers by pairs.
func headers(method, path string, hasBody bool, pairs ...string) *extprocv3.ProcessingRequest {
	list := []*corev3.HeaderValue{{Key: ":method", RawValue: []byte(method)}, {Key: ":path", RawValue: []byte(path)}, {Key: "x-request-id", RawValue: []byte(callID)}}
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{Headers: list}, EndOfStream: !hasBody},
	}}
}

func bodyMessage(body string) *extprocv3.ProcessingRequest {
	return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(body), EndOfStream: true}}}
}

// An exchange is all that the server answered to one request.
type exchange struct {
	answers []*extprocv3.ProcessingResponse
	err     error // of the stream; nil: the server closed it well
}

// last returns the answer that decides.
func (e exchange) last() *extprocv3.ProcessingResponse {
	if len(e.answers) == 0 {
		return &extprocv3.ProcessingResponse{}
	}
	return e.answers[len(e.answers)-1]
}

// call plays a request: headers, and the body where the server asks for it.
func (g *gateway) call(method, path, body string, pairs ...string) (x exchange) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	stream := g.open(ctx)
	if err := stream.Send(headers(method, path, body != "", pairs...)); err != nil {
		g.t.Fatal(err)
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				x.err = err
			}
			return x
		}
		x.answers = append(x.answers, answer)
		if answer.GetRequestHeaders() != nil && answer.GetRequestHeaders().GetResponse() == nil {
			if err := stream.Send(bodyMessage(body)); err != nil {
				g.t.Fatal(err)
			}
		}
	}
}

// chat calls the chat API with the key.
func (g *gateway) chat(body string, pairs ...string) exchange {
	g.t.Helper()
	return g.call("POST", chat, body, append([]string{"authorization", "Bearer " + key}, pairs...)...)
}

// decisionOf decodes the decision of an answer: of a call that was sent, the one in its intent, of which the answer's
// metadata has all that settling needs.
func (g *gateway) decisionOf(answer *extprocv3.ProcessingResponse) (d *logos.Decision, encoded string) {
	g.t.Helper()
	encoded = answer.GetDynamicMetadata().GetFields()[extproc.Namespace].GetStructValue().GetFields()[extproc.DecisionKey].GetStringValue()
	if encoded == "" {
		return nil, ""
	}
	begun := g.intents.all()
	for i := len(begun) - 1; i >= 0; i-- {
		if settling := strings.TrimSuffix(encoded, "}"); strings.HasPrefix(begun[i].encoded, settling) {
			encoded = begun[i].encoded
			break
		}
	}
	d = &logos.Decision{}
	if err := json.Unmarshal([]byte(encoded), d); err != nil {
		g.t.Fatalf("the decision %q: %v", encoded, err)
	}
	return d, encoded
}

func parseURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return u
}

// config compiles an installation: project 1 with profiles that the change may alter.
func config(t testing.TB, change func(*logos.Resources)) *logos.Config {
	t.Helper()
	hasher := logos.NewHasher(make([]byte, 32))
	r := logos.Resources{
		Hasher:   hasher,
		Projects: []*logos.Project{{ID: 1, TeamID: 9, Name: "app"}},
		APIKeys:  []*logos.APIKey{{ID: 3, ProjectID: 1, Hash: hasher.APIKey(key), Role: logos.RoleMember}},
		Profiles: []*logos.Profile{{ID: 4, ProjectID: 1, Name: "main", Passthrough: true, Models: []logos.ModelID{1, 2},
			Grants: []logos.Grant{{Provider: 1, Credential: 1}, {Provider: 2, Credential: 2}, {Provider: 3}}}},
		Providers: []*logos.Provider{
			{ID: 1, Name: "one", BaseURL: parseURL("https://one.example/v1"), Dialect: logos.DialectOpenAI, AuthHeader: "authorization", AuthFormat: "Bearer {}"},
			{ID: 2, Name: "two", BaseURL: parseURL("http://two.example:81/base?x=1"), Dialect: logos.DialectCompatible},
			{ID: 3, Name: "claude", BaseURL: parseURL("https://claude.example"), Dialect: logos.DialectAnthropic, AuthHeader: "x-api-key", AuthFormat: "{}"},
		},
		Credentials: []*logos.Credential{{ID: 1, Provider: 1, Secret: "sk-1"}, {ID: 2, Provider: 2}},
		Models:      []*logos.Model{{ID: 1, Name: "small"}, {ID: 2, Name: "big"}},
		Deployments: []*logos.Deployment{
			{ID: 1, Model: 1, Provider: 1, ProviderModel: "small-2026", IncludeUsage: true}, {ID: 2, Model: 1, Provider: 2},
			{ID: 3, Model: 1, Provider: 3}, {ID: 4, Model: 2, Provider: 2, IncludeUsage: true},
		},
	}
	if change != nil {
		change(&r)
	}
	c, err := logos.NewConfig(17, r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// clusterOf returns the name of the cluster of a deployment.
func clusterOf(t *testing.T, c *logos.Config, id logos.DeploymentID) string {
	t.Helper()
	for _, target := range c.Targets() {
		if target.Deployment != nil && target.Deployment.ID == id {
			return target.Cluster
		}
	}
	t.Fatalf("deployment %d has no cluster", id)
	return ""
}

// passCluster returns the name of the cluster of a provider's pass-through; credential 0: the caller's own.
func passCluster(t *testing.T, c *logos.Config, provider logos.ProviderID, credential logos.CredentialID) string {
	t.Helper()
	for _, target := range c.Targets() {
		if target.Deployment == nil && target.Provider.ID == provider && (target.Credential == nil && credential == 0 || target.Credential != nil && target.Credential.ID == credential) {
			return target.Cluster
		}
	}
	t.Fatalf("provider %d has no cluster for pass-through", provider)
	return ""
}
