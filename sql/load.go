package store

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// Load compiles the present revision of the configuration.
func (s *Store) Load(ctx context.Context) (*logos.Config, error) {
	var revision int64
	r := logos.Resources{Hasher: s.hasher}
	// All tables at one moment: a revision is never seen in part.
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		q := db.New(tx)
		present, err := q.Revision(ctx)
		if err != nil {
			return err
		}
		revision = present.Revision
		for _, read := range []func(context.Context, *db.Queries, *logos.Resources) error{
			readProjects, readKeys, readProfiles, readProviders, s.readCredentials, readModels, readDeployments, readEgress,
		} {
			if err := read(ctx, q, &r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load the configuration: %w", err)
	}
	config, err := logos.NewConfig(revision, r)
	if err != nil {
		return nil, fmt.Errorf("compile revision %d of the configuration: %w", revision, err)
	}
	return config, nil
}

func readProjects(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	rows, err := q.LoadProjects(ctx)
	for _, x := range rows {
		r.Projects = append(r.Projects, &logos.Project{ID: logos.ProjectID(x.ID), TeamID: logos.TeamID(zero(x.TeamID)), Name: x.Name})
	}
	return err
}

func readKeys(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	rows, err := q.LoadAPIKeys(ctx)
	for _, x := range rows {
		k := &logos.APIKey{
			ID: logos.APIKeyID(x.ID), ProjectID: logos.ProjectID(x.ProjectID), ProfileID: logos.ProfileID(zero(x.ProfileID)),
			MemberID: logos.MemberID(zero(x.MemberID)), Role: logos.Role(x.Role), Revoked: x.RevokedAt != nil, ExpiresAt: zero(x.ExpiresAt),
			PreviousExpiresAt: zero(x.PreviousExpiresAt), APIs: x.AllowedApis,
		}
		copy(k.PreviousHash[:], x.PreviousHash)
		for _, id := range x.AllowedModels {
			k.Models = append(k.Models, logos.ModelID(id))
		}
		for _, text := range x.AllowedCidrs {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("api key %d has an unreadable source range", x.ID)
			}
			k.Sources = append(k.Sources, prefix)
		}
		if copy(k.Hash[:], x.Hash) != len(k.Hash) {
			return fmt.Errorf("api key %d has a hash of %d bytes", x.ID, len(x.Hash))
		}
		r.APIKeys = append(r.APIKeys, k)
	}
	return err
}

func readProfiles(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	rows, err := q.LoadProfiles(ctx)
	if err != nil {
		return err
	}
	byID := make(map[int64]*logos.Profile, len(rows))
	for _, x := range rows {
		p := &logos.Profile{ID: logos.ProfileID(x.ID), ProjectID: logos.ProjectID(x.ProjectID), Name: x.Name, Passthrough: x.Passthrough}
		byID[x.ID] = p
		r.Profiles = append(r.Profiles, p)
	}
	grants, err := q.LoadProfileProviders(ctx)
	if err != nil {
		return err
	}
	for _, g := range grants {
		if p := byID[g.ProfileID]; p != nil {
			p.Grants = append(p.Grants, logos.Grant{Provider: logos.ProviderID(g.ProviderID), Credential: logos.CredentialID(zero(g.CredentialID))})
		}
	}
	models, err := q.LoadProfileModels(ctx)
	for _, g := range models {
		if p := byID[g.ProfileID]; p != nil {
			p.Models = append(p.Models, logos.ModelID(g.ModelID))
		}
	}
	return err
}

func readProviders(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	rows, err := q.LoadProviders(ctx)
	for _, x := range rows {
		base, err := url.Parse(x.BaseUrl)
		if err != nil {
			return fmt.Errorf("provider %d has no readable base URL", x.ID)
		}
		r.Providers = append(r.Providers, &logos.Provider{
			ID: logos.ProviderID(x.ID), Name: x.Name, BaseURL: base, Dialect: logos.Dialect(x.Dialect),
			AuthHeader: x.AuthHeader, AuthFormat: x.AuthFormat,
		})
	}
	return err
}

func (s *Store) readCredentials(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	rows, err := q.LoadCredentials(ctx)
	for _, x := range rows {
		secret, err := s.master.unseal(sealed{keyID: x.KeyID, dataKey: x.DataKey, secret: x.Secret})
		if err != nil {
			return fmt.Errorf("decrypt credential %d: %w", x.ID, err)
		}
		r.Credentials = append(r.Credentials, &logos.Credential{ID: logos.CredentialID(x.ID), Provider: logos.ProviderID(x.ProviderID), Name: x.Name, Secret: logos.Secret(secret)})
	}
	return err
}

func readModels(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	rows, err := q.LoadModels(ctx)
	for _, x := range rows {
		r.Models = append(r.Models, &logos.Model{ID: logos.ModelID(x.ID), Name: x.Name, Endpoint: x.Endpoint})
	}
	return err
}

func readDeployments(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	rows, err := q.LoadDeployments(ctx)
	for _, x := range rows {
		d := &logos.Deployment{
			ID: logos.DeploymentID(x.ID), Model: logos.ModelID(x.ModelID), Provider: logos.ProviderID(x.ProviderID),
			Credential: logos.CredentialID(zero(x.CredentialID)), ProviderModel: x.ProviderModel, Endpoint: x.Endpoint,
			IncludeUsage: x.IncludeUsage, MaxParallel: int(x.MaxParallel),
		}
		for _, api := range x.Apis {
			d.APIs = append(d.APIs, logos.API(api))
		}
		r.Deployments = append(r.Deployments, d)
	}
	return err
}

func readEgress(ctx context.Context, q *db.Queries, r *logos.Resources) error {
	row, err := q.LoadEgress(ctx)
	r.Egress.Hosts = row.EgressHosts
	for _, text := range row.EgressCidrs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("the settings allow an unreadable range of addresses: %.64q", text)
		}
		r.Egress.Ranges = append(r.Egress.Ranges, prefix)
	}
	return err
}

// zero returns what p points to, or the zero value for null.
func zero[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// null returns null for the zero value.
func null[T ~int64](v T) *int64 {
	if v == 0 {
		return nil
	}
	n := int64(v)
	return &n
}
