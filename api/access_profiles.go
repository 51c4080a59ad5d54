package api

import (
	"context"
	"slices"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var accessProfiles = resource[*adminv1.AccessProfile]{
	kind: store.AccessProfiles,
	columns: func(ctx context.Context, c *change, m, before *adminv1.AccessProfile) (store.Columns, error) {
		if err := named("name", m.GetName()); err != nil {
			return nil, err
		}
		project, err := c.need(ctx, reference{kind: store.Projects, field: "project", id: m.GetProjectId(), name: m.GetProject(), kept: before.GetProjectId()})
		if err == nil {
			err = same("project", before != nil, before.GetProjectId(), project)
		}
		return store.Columns{"name": m.GetName(), "project_id": project, "passthrough": m.GetPassthrough()}, err
	},
	also: func(ctx context.Context, c *change, id int64, m *adminv1.AccessProfile) error {
		var models []int64
		for i, name := range m.GetModels() {
			id, err := c.need(ctx, reference{kind: store.Models, field: item("models", i), name: name})
			if err != nil {
				return err
			}
			models = append(models, id)
		}
		var grants []logos.Grant
		for i, g := range m.GetGrants() {
			grant, err := c.grant(ctx, item("grants", i), g)
			if err == nil && slices.Contains(grants, grant) {
				err = invalid(item("grants", i), "it is there twice")
			}
			if err != nil {
				return err
			}
			grants = append(grants, grant)
		}
		return c.SetGrants(ctx, id, models, grants)
	},
}

func (c *change) grant(ctx context.Context, path string, g *adminv1.Grant) (logos.Grant, error) {
	provider, err := c.need(ctx, reference{kind: store.Providers, field: path + ".provider", name: g.GetProvider()})
	if err != nil {
		return logos.Grant{}, err
	}
	credential, err := c.find(ctx, reference{
		kind: store.Credentials, field: path + ".credential", name: g.GetCredential(), within: store.Columns{"provider_id": provider},
	})
	return logos.Grant{Provider: logos.ProviderID(provider), Credential: logos.CredentialID(credential)}, err
}

type accessProfileServer struct {
	adminv1.UnimplementedAccessProfileServiceServer
	*Service
}

func (s *accessProfileServer) GetAccessProfile(ctx context.Context, r *adminv1.GetAccessProfileRequest) (*adminv1.AccessProfile, error) {
	return get[*adminv1.AccessProfile](ctx, s.Service, store.AccessProfiles, r.GetId())
}

func (s *accessProfileServer) ListAccessProfiles(ctx context.Context, r *adminv1.ListAccessProfilesRequest) (*adminv1.ListAccessProfilesResponse, error) {
	items, next, err := list[*adminv1.AccessProfile](ctx, s.Service, store.AccessProfiles, r)
	return &adminv1.ListAccessProfilesResponse{AccessProfiles: items, NextPageToken: next}, err
}

func (s *accessProfileServer) CreateAccessProfile(ctx context.Context, r *adminv1.CreateAccessProfileRequest) (*adminv1.AccessProfile, error) {
	return accessProfiles.create(ctx, s.Service, r.GetAccessProfile(), r.GetRequestId())
}

func (s *accessProfileServer) UpdateAccessProfile(ctx context.Context, r *adminv1.UpdateAccessProfileRequest) (*adminv1.AccessProfile, error) {
	return accessProfiles.update(ctx, s.Service, r.GetAccessProfile(), r.GetUpdateMask())
}

func (s *accessProfileServer) DeleteAccessProfile(ctx context.Context, r *adminv1.DeleteAccessProfileRequest) (*adminv1.AccessProfile, error) {
	return accessProfiles.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
