package api

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/probe"
)

// providerServer tries providers.
type providerServer struct {
	adminv1.UnimplementedProviderServiceServer
	prober *probe.Prober
}

// TestProvider makes a real call through Envoy, and says what failed.
func (s *providerServer) TestProvider(ctx context.Context, r *adminv1.TestProviderRequest) (*adminv1.TestProviderResponse, error) {
	result, err := s.prober.Test(ctx, probe.Request{
		Key: caller(ctx), Provider: logos.ProviderID(r.GetId()), Credential: r.GetCredential(), Model: r.GetProviderModel(),
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
	found, err := s.prober.Discover(ctx, probe.Request{Key: caller(ctx), Provider: logos.ProviderID(r.GetId()), Credential: r.GetCredential()})
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

type callerKey struct{}

// caller returns the API key with which an administrative call is made.
func caller(ctx context.Context) *logos.APIKey {
	k, _ := ctx.Value(callerKey{}).(*logos.APIKey)
	return k
}
