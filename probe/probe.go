// Package probe tries providers: it makes a real call through Envoy's data plane, with a stored credential,
// and says in words what failed first and what would be right. The call needs no access profile: Envoy is
// given a cluster for the while, and ext_proc a ticket that is good for this one call; it is recorded and
// metered like every call. The package checks nobody's right to do so: api does, which calls it.
package probe

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

const (
	limit       = 26 * time.Second // of all but recordLimit
	callLimit   = 20 * time.Second // of the call itself
	holdLimit   = 10 * time.Second // for Envoy to take a cluster
	lookLimit   = 6 * time.Second  // more than a lookup takes
	recordLimit = 3 * time.Second  // for the record of a call that failed
	atOnce      = 4                // probes
	maxAnswer   = 8 << 20          // bytes of an answer
	maxPages    = 10               // of a list of models
	maxModels   = 10_000
)

// Places knows where hosts lead; [egress.Book] does.
type Places interface {
	Look(ctx context.Context, host, port string) egress.Finding
}

// Clusters gives Envoy a cluster for a while; xds.Server does.
type Clusters interface {
	Hold(ctx context.Context, t *logos.Target) (release func(), err error)
}

// Records knows what became of calls; store.Store does.
type Records interface {
	Call(ctx context.Context, id logos.CallID) (*logos.Call, error)
}

// A Prober tries providers. Its methods may be called from any goroutine.
type Prober struct {
	current  func() *logos.Config
	places   Places
	clusters Clusters
	tickets  *extproc.Probes
	records  Records
	url      string // of the data plane
	client   *http.Client
	slots    chan struct{}
}

// New makes a prober. current returns the configuration in force; url is the data plane's, as this process
// reaches it.
func New(current func() *logos.Config, places Places, clusters Clusters, tickets *extproc.Probes, records Records, url string) *Prober {
	return &Prober{
		current: current, places: places, clusters: clusters, tickets: tickets, records: records, url: url, slots: make(chan struct{}, atOnce),
		client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DisableKeepAlives: true, DisableCompression: true,
				// It is our own listener, whose certificate names what callers call it.
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
			},
		},
	}
}

// A Request says what to try.
type Request struct {
	Key        *logos.APIKey // of who asks: the call is on its project's account
	Provider   logos.ProviderID
	Credential string // its name; empty: the provider's first, or none if it has none
	Model      string // as the provider calls it: it is asked for one token; empty: the models are listed
}

// A Failure names what failed first; empty: nothing.
type Failure string

// The failures, in the order in which they show.
const (
	AllowList Failure = "allow_list" // the host leads to no address at which providers may be
	DNS       Failure = "dns"        // it does not resolve
	Connect   Failure = "connect"    // no connection
	TLS       Failure = "tls"        // no TLS, or a certificate that is not trusted
	Auth      Failure = "auth"       // the credential is refused
	Path      Failure = "path"       // the API is not there
	Model     Failure = "model"      // the model is not there
	RateLimit Failure = "rate_limit" // the provider has no room
	Provider  Failure = "provider"   // it fails by itself
	Timeout   Failure = "timeout"    // it does not answer in time
)

// A Result says what came of it.
type Result struct {
	Failed   Failure
	Message  string // in words, with what would be right
	Status   int    // of the provider's answer; 0: there was none
	Duration time.Duration
	CallID   logos.CallID // of the record; empty: no call was made
}

// A FoundModel is one that a provider lists.
type FoundModel struct {
	ProviderModel string
	Deployments   []logos.DeploymentID // that lead to it already
}

// Test tries a provider. An error means that it could not be tried, which says nothing about it.
func (p *Prober) Test(ctx context.Context, r Request) (Result, error) {
	ctx, done, err := p.begin(ctx)
	if err != nil {
		return Result{}, err
	}
	defer done()
	config, target, err := p.target(r)
	if err != nil {
		return Result{}, err
	}
	question := dialect.ListModels(target.Provider, "")
	if r.Model != "" {
		var ok bool
		if question, ok = dialect.AskForLittle(deployed(config, target.Provider, r.Model), r.Model); !ok {
			return Result{}, logos.Errorf(logos.Unsupported, "api_not_supported", "the deployment of %.256q serves no API that can be tried", r.Model)
		}
	}
	out, err := p.try(ctx, r, target, question)
	return out.Result, err
}

// Discover lists a provider's models. What keeps it from that is an error with the code provider_ and the
// failure.
func (p *Prober) Discover(ctx context.Context, r Request) ([]FoundModel, error) {
	ctx, done, err := p.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	config, target, err := p.target(r)
	if err != nil {
		return nil, err
	}
	if target.Provider.Dialect == logos.DialectAzure {
		return nil, logos.Errorf(logos.Unsupported, "discovery_not_supported", "Azure lists its deployments to nobody by an API key: add them by the names that the Azure portal shows")
	}
	r.Model = ""
	var names []string
	next := ""
	for range maxPages {
		out, err := p.try(ctx, r, target, dialect.ListModels(target.Provider, next))
		if err != nil {
			return nil, err
		}
		if out.Failed != "" {
			return nil, logos.Errorf(kind(out.Failed), "provider_"+string(out.Failed), "%s", out.Message)
		}
		names = append(names, out.models...)
		if next = out.next; next == "" || len(names) >= maxModels {
			break
		}
	}
	return found(config, target.Provider, names), nil
}

func kind(f Failure) logos.Kind {
	switch f {
	case AllowList, TLS, Auth, Path, Model:
		return logos.Invalid // trying again would not help
	}
	return logos.Unavailable
}

// begin waits for nothing: who finds too many probes under way comes again.
func (p *Prober) begin(ctx context.Context) (context.Context, func(), error) {
	select {
	case p.slots <- struct{}{}:
	default:
		return nil, nil, logos.Errorf(logos.Exhausted, "too_many_probes", "%d providers are being tried already: try again in a few seconds", atOnce)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	return ctx, func() { cancel(); <-p.slots }, nil
}

// target finds what to try.
func (p *Prober) target(r Request) (*logos.Config, *logos.Target, error) {
	config := p.current()
	if config == nil {
		return nil, nil, logos.Errorf(logos.Unavailable, "gateway_starting", "the gateway has no configuration yet: try again in a few seconds")
	}
	provider := config.Provider(r.Provider)
	if provider == nil {
		return nil, nil, logos.Errorf(logos.NotFound, "not_found", "there is no provider with id %d", r.Provider)
	}
	credentials := config.Credentials(provider.ID)
	if r.Credential == "" && len(credentials) == 0 {
		return config, logos.ProviderTarget(provider, nil), nil
	}
	for _, c := range credentials {
		if r.Credential == "" || c.Name == r.Credential {
			return config, logos.ProviderTarget(provider, c), nil
		}
	}
	return nil, nil, logos.Errorf(logos.NotFound, "not_found", "the provider %q has no credential %.256q", provider.Name, r.Credential)
}

// deployed returns a target with the deployment of a provider's model, whose APIs and paths then count; one
// that says nothing if there is none.
func deployed(config *logos.Config, provider *logos.Provider, model string) *logos.Target {
	for _, d := range config.Deployments(provider.ID) {
		if m := config.ModelByID(d.Model); m != nil && providerModel(d, m) == model {
			return &logos.Target{Provider: provider, Deployment: d, Model: m}
		}
	}
	return &logos.Target{Provider: provider, Deployment: &logos.Deployment{}, Model: &logos.Model{}}
}

func providerModel(d *logos.Deployment, m *logos.Model) string {
	if d.ProviderModel != "" {
		return d.ProviderModel
	}
	return m.Name
}

// found joins what a provider lists, each once, with what is deployed.
func found(config *logos.Config, provider *logos.Provider, names []string) []FoundModel {
	at := make(map[string]int, len(names))
	var list []FoundModel
	for _, n := range names {
		if _, twice := at[n]; !twice && len(list) < maxModels {
			at[n] = len(list)
			list = append(list, FoundModel{ProviderModel: n})
		}
	}
	for _, d := range config.Deployments(provider.ID) {
		m := config.ModelByID(d.Model)
		if m == nil {
			continue
		}
		if i, ok := at[providerModel(d, m)]; ok {
			list[i].Deployments = append(list[i].Deployments, d.ID)
		}
	}
	return list
}

// addresses writes them for people.
func addresses(list []netip.Addr) string {
	text := ""
	for i, a := range list {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return text
}
