package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// A Demo is the demo project with its provider.
type Demo struct {
	Project  logos.ProjectID
	Provider logos.ProviderID
	BaseURL  string
}

// Demo returns the demo project, or nil if there is none.
func (s *Store) Demo(ctx context.Context) (*Demo, error) {
	row, err := db.New(s.pool).Demo(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return &Demo{Project: logos.ProjectID(row.ProjectID), Provider: logos.ProviderID(row.ProviderID), BaseURL: row.BaseUrl}, err
}

// OwnsKey says whether a project has that API key.
func (s *Store) OwnsKey(ctx context.Context, project logos.ProjectID, secret logos.Secret) (bool, error) {
	hash := s.hasher.APIKey(string(secret))
	return db.New(s.pool).HasProjectKey(ctx, db.HasProjectKeyParams{ProjectID: int64(project), Hash: hash[:]})
}

// SetProviderURL moves a provider.
func (t *Tx) SetProviderURL(ctx context.Context, provider logos.ProviderID, baseURL string) error {
	return t.Audited(ctx, Providers, int64(provider), func(ctx context.Context) error {
		return t.q.SetProviderURL(ctx, db.SetProviderURLParams{ID: int64(provider), BaseUrl: baseURL, Revision: t.revision})
	})
}
