package api

import (
	"cmp"
	"context"
	"net/url"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/probe"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var providers = resource[*adminv1.Provider]{
	kind: store.Providers,
	columns: func(ctx context.Context, c *change, m, _ *adminv1.Provider) (store.Columns, error) {
		if err := named("name", m.GetName()); err != nil {
			return nil, err
		}
		base, err := c.admit(ctx, m.GetBaseUrl())
		if err != nil {
			return nil, at("base_url", err)
		}
		if err := settleProvider(m); err != nil {
			return nil, err
		}
		header, format := m.GetAuthHeader(), m.GetAuthFormat()
		if header == noAuth {
			header, format = "", "{}"
		}
		return store.Columns{
			"name": m.GetName(), "base_url": base.String(), "dialect": m.GetDialect(), "auth_header": header, "auth_format": format,
			"privacy_zone": m.GetPrivacyZone(),
		}, nil
	},
	settle: func(_ context.Context, _ *change, _, after *adminv1.Provider) error { return settleProvider(after) },
}

// admit reads a base URL, and checks that the settings, as the change leaves them, allow its host.
func (c *change) admit(ctx context.Context, text string) (*url.URL, error) {
	base, err := parseBaseURL(text)
	if err != nil {
		return nil, err
	}
	settings, err := decodeSettings(c.Settings(ctx))
	if err != nil {
		return nil, err
	}
	allow, err := egress.Parse(settings.GetEgressHosts(), settings.GetEgressCidrs())
	if err != nil {
		return nil, err
	}
	host, port := (&logos.Provider{BaseURL: base}).Address()
	return base, c.service.egress.Admit(ctx, allow, host, port)
}

// settleProvider fills in what the dialect says.
func settleProvider(m *adminv1.Provider) error {
	base, err := url.Parse(m.GetBaseUrl())
	if err != nil {
		return invalid("base_url", "must be an http or https URL, like https://api.openai.com/v1")
	}
	m.BaseUrl = base.String()
	if m.GetDialect() == "" {
		m.Dialect = string(guessDialect(m.GetName(), base))
	}
	if m.GetAuthHeader() == noAuth {
		m.AuthFormat = ""
		return nil
	}
	usual := usualAuth[logos.Dialect(m.GetDialect())]
	if m.AuthHeader, err = authHeader("auth_header", cmp.Or(m.GetAuthHeader(), usual.header)); err != nil {
		return at("auth_header", err)
	}
	if m.GetAuthFormat() == "" {
		m.AuthFormat = usualFormat(logos.Dialect(m.GetDialect()), m.GetAuthHeader())
	}
	return at("auth_format", checkAuthFormat(m.GetAuthFormat()))
}

// noAuth in the place of a header says that the provider takes no key from us.
const noAuth = "none"

// usualAuth is how the providers of a dialect take their keys.
var usualAuth = map[logos.Dialect]struct{ header, format string }{
	logos.DialectOpenAI:     {"authorization", "Bearer {}"},
	logos.DialectCompatible: {"authorization", "Bearer {}"},
	logos.DialectAzure:      {"api-key", "{}"},
	logos.DialectAnthropic:  {"x-api-key", "{}"},
	logos.DialectGemini:     {"x-goog-api-key", "{}"},
}

func usualFormat(dialect logos.Dialect, header string) string {
	switch header {
	case usualAuth[dialect].header:
		return usualAuth[dialect].format
	case "authorization":
		return "Bearer {}"
	}
	return "{}"
}

type providerServer struct {
	adminv1.UnimplementedProviderServiceServer
	*Service
	prober *probe.Prober
}

func (s *providerServer) GetProvider(ctx context.Context, r *adminv1.GetProviderRequest) (*adminv1.Provider, error) {
	return get[*adminv1.Provider](ctx, s.Service, store.Providers, r.GetId())
}

func (s *providerServer) ListProviders(ctx context.Context, r *adminv1.ListProvidersRequest) (*adminv1.ListProvidersResponse, error) {
	items, next, err := list[*adminv1.Provider](ctx, s.Service, store.Providers, r)
	return &adminv1.ListProvidersResponse{Providers: items, NextPageToken: next}, err
}

func (s *providerServer) CreateProvider(ctx context.Context, r *adminv1.CreateProviderRequest) (*adminv1.Provider, error) {
	return providers.create(ctx, s.Service, r.GetProvider(), r.GetRequestId())
}

func (s *providerServer) UpdateProvider(ctx context.Context, r *adminv1.UpdateProviderRequest) (*adminv1.Provider, error) {
	return providers.update(ctx, s.Service, r.GetProvider(), r.GetUpdateMask())
}

func (s *providerServer) DeleteProvider(ctx context.Context, r *adminv1.DeleteProviderRequest) (*adminv1.Provider, error) {
	return providers.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}

// TestProvider makes a real call through Envoy, and says what failed.
func (s *providerServer) TestProvider(ctx context.Context, r *adminv1.TestProviderRequest) (*adminv1.TestProviderResponse, error) {
	result, err := s.prober.Test(ctx, probe.Request{
		Key: keyOf(ctx), Provider: logos.ProviderID(r.GetId()), Credential: r.GetCredential(), Model: r.GetProviderModel(),
	})
	if err != nil {
		return nil, err
	}
	return &adminv1.TestProviderResponse{
		Ok: result.Failed == "", Failed: string(result.Failed), Message: result.Message, Status: int32(result.Status),
		Duration: durationpb.New(result.Duration), CallId: string(result.CallID),
	}, nil
}

// DiscoverModels asks the provider, through Envoy, which models it has.
func (s *providerServer) DiscoverModels(ctx context.Context, r *adminv1.DiscoverModelsRequest) (*adminv1.DiscoverModelsResponse, error) {
	found, err := s.prober.Discover(ctx, probe.Request{Key: keyOf(ctx), Provider: logos.ProviderID(r.GetId()), Credential: r.GetCredential()})
	if err != nil {
		return nil, err
	}
	out := &adminv1.DiscoverModelsResponse{Models: make([]*adminv1.DiscoveredModel, len(found))}
	for i, m := range found {
		out.Models[i] = &adminv1.DiscoveredModel{ProviderModel: m.ProviderModel}
		for _, d := range m.Deployments {
			out.Models[i].DeploymentIds = append(out.Models[i].DeploymentIds, int64(d))
		}
	}
	return out, nil
}

// keyOf returns the API key on whose account a provider is tried.
func keyOf(ctx context.Context) *logos.APIKey {
	c := callerOf(ctx)
	return &logos.APIKey{ID: c.Key, ProjectID: c.Project, MemberID: c.Member, Role: c.Role}
}
