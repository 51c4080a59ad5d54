package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// PriceList returns all prices, and what providers call the models of deployments, also of those that are gone, as
// calls of before name them. It needs no master key.
func (s *Store) PriceList(ctx context.Context) (prices []*logos.Price, names map[logos.DeploymentID]string, err error) {
	var c logos.Changes
	if err := readPrices(ctx, db.New(s.pool), 0, &c); err != nil {
		return nil, nil, fmt.Errorf("read prices: %w", err)
	}
	rows, err := s.pool.Query(ctx, "select d.id, coalesce(nullif(d.provider_model, ''), m.name) from deployments d join models m on m.id = d.model_id")
	if err != nil {
		return nil, nil, fmt.Errorf("read deployments: %w", err)
	}
	names = make(map[logos.DeploymentID]string)
	var id logos.DeploymentID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error { names[id] = name; return nil }); err != nil {
		return nil, nil, fmt.Errorf("read deployments: %w", err)
	}
	return c.Prices, names, nil
}

// IDOf returns the id of the resource of a kind that has a name.
func (s *Store) IDOf(ctx context.Context, k *Kind, name string) (id int64, err error) {
	rows, err := s.pool.Query(ctx, "select r.id from "+k.table+" r where r.name = $1 order by r.deleted_at is not null, r.id desc limit 1", name)
	if err != nil {
		return 0, fmt.Errorf("find a %s: %w", k.Name, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err == nil && len(ids) == 0 {
		err = logos.Errorf(logos.NotFound, "not_found", "there is no %s with the name %q", k.Words(), name)
	}
	if err != nil {
		return 0, err
	}
	return ids[0], nil
}
