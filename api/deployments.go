package api

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var deployments = resource[*adminv1.Deployment]{
	kind: store.Deployments,
	columns: func(ctx context.Context, c *change, m, _ *adminv1.Deployment) (store.Columns, error) {
		if m.GetName() != "" {
			if err := named("name", m.GetName()); err != nil {
				return nil, err
			}
		}
		model, err := c.need(ctx, reference{kind: store.Models, field: "model", id: m.GetModelId(), name: m.GetModel()})
		if err != nil {
			return nil, err
		}
		provider, err := c.need(ctx, reference{kind: store.Providers, field: "provider", id: m.GetProviderId(), name: m.GetProvider()})
		if err != nil {
			return nil, err
		}
		credential, err := c.find(ctx, reference{
			kind: store.Credentials, field: "credential", id: m.GetCredentialId(), name: m.GetCredential(), within: store.Columns{"provider_id": provider},
		})
		if err != nil {
			return nil, err
		}
		return store.Columns{
			"name": m.GetName(), "model_id": model, "provider_id": provider, "credential_id": orNull(credential),
			"provider_model": m.GetProviderModel(), "endpoint": m.GetEndpoint(), "apis": textArray(m.GetApis()),
			"include_usage": m.IncludeUsage == nil || m.GetIncludeUsage(), "service_tier": m.GetServiceTier(),
			"max_parallel": m.GetMaxParallel(), "max_requests": m.GetMaxRequestsPerMinute(), "max_tokens": m.GetMaxTokensPerMinute(), "drained": m.GetDrained(),
		}, checkDeployment(m)
	},
	settle: func(_ context.Context, _ *change, _, after *adminv1.Deployment) error {
		if after.IncludeUsage == nil {
			after.IncludeUsage = proto.Bool(true)
		}
		return nil
	},
}

func checkDeployment(m *adminv1.Deployment) error {
	if !printable(m.GetProviderModel()) {
		return invalid("provider_model", "must be printable ASCII")
	}
	return at("endpoint", checkEndpoint(m.GetEndpoint()))
}

type deploymentServer struct {
	adminv1.UnimplementedDeploymentServiceServer
	*Service
}

func (s *deploymentServer) GetDeployment(ctx context.Context, r *adminv1.GetDeploymentRequest) (*adminv1.Deployment, error) {
	return get[*adminv1.Deployment](ctx, s.Service, store.Deployments, r.GetId())
}

func (s *deploymentServer) ListDeployments(ctx context.Context, r *adminv1.ListDeploymentsRequest) (*adminv1.ListDeploymentsResponse, error) {
	items, next, err := list[*adminv1.Deployment](ctx, s.Service, store.Deployments, r)
	return &adminv1.ListDeploymentsResponse{Deployments: items, NextPageToken: next}, err
}

func (s *deploymentServer) CreateDeployment(ctx context.Context, r *adminv1.CreateDeploymentRequest) (*adminv1.Deployment, error) {
	return deployments.create(ctx, s.Service, r.GetDeployment(), r.GetRequestId())
}

func (s *deploymentServer) UpdateDeployment(ctx context.Context, r *adminv1.UpdateDeploymentRequest) (*adminv1.Deployment, error) {
	return deployments.update(ctx, s.Service, r.GetDeployment(), r.GetUpdateMask())
}

func (s *deploymentServer) DeleteDeployment(ctx context.Context, r *adminv1.DeleteDeploymentRequest) (*adminv1.Deployment, error) {
	return deployments.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
