package api

import (
	"context"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var credentials = resource[*adminv1.Credential]{
	kind: store.Credentials,
	columns: func(ctx context.Context, c *change, m, before *adminv1.Credential) (store.Columns, error) {
		provider, err := c.need(ctx, reference{kind: store.Providers, field: "provider", id: m.GetProviderId(), name: m.GetProvider()})
		if err == nil {
			err = same("provider", before != nil, before.GetProviderId(), provider)
		}
		if err != nil {
			return nil, err
		}
		columns := store.Columns{"provider_id": provider}
		if m.GetName() != "" {
			columns["name"] = m.GetName()
			if err := named("name", m.GetName()); err != nil {
				return nil, err
			}
		}
		if before != nil && m.GetSecret() == "" {
			return columns, nil // it stays
		}
		secret := logos.Secret(m.GetSecret())
		if err := checkSecret("secret", secret); err != nil {
			return nil, at("secret", err)
		}
		return columns, c.Seal(ctx, columns, secret)
	},
	settle: func(ctx context.Context, c *change, before, after *adminv1.Credential) error {
		same, err := c.HasSecret(ctx, logos.CredentialID(before.GetId()), logos.Secret(after.GetSecret()))
		if same {
			after.Secret = nil
		}
		return err
	},
}

type credentialServer struct {
	adminv1.UnimplementedCredentialServiceServer
	*Service
}

func (s *credentialServer) GetCredential(ctx context.Context, r *adminv1.GetCredentialRequest) (*adminv1.Credential, error) {
	return get[*adminv1.Credential](ctx, s.Service, store.Credentials, r.GetId())
}

func (s *credentialServer) ListCredentials(ctx context.Context, r *adminv1.ListCredentialsRequest) (*adminv1.ListCredentialsResponse, error) {
	items, next, err := list[*adminv1.Credential](ctx, s.Service, store.Credentials, r)
	return &adminv1.ListCredentialsResponse{Credentials: items, NextPageToken: next}, err
}

func (s *credentialServer) CreateCredential(ctx context.Context, r *adminv1.CreateCredentialRequest) (*adminv1.Credential, error) {
	return credentials.create(ctx, s.Service, r.GetCredential(), r.GetRequestId())
}

func (s *credentialServer) UpdateCredential(ctx context.Context, r *adminv1.UpdateCredentialRequest) (*adminv1.Credential, error) {
	return credentials.update(ctx, s.Service, r.GetCredential(), r.GetUpdateMask())
}

func (s *credentialServer) DeleteCredential(ctx context.Context, r *adminv1.DeleteCredentialRequest) (*adminv1.Credential, error) {
	return credentials.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
