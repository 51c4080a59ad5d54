package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// A size is how much of each kind an installation has. Each provider has one credential, each project one
// access profile.
type size struct{ providers, models, deployments, projects, keys int }

// large is the installation that the project wants to serve well.
var large = size{providers: 1000, models: 2000, deployments: 5000, projects: 10_000, keys: 100_000}

// divided returns a size that many times smaller.
func (n size) divided(by int) size {
	return size{n.providers / by, n.models / by, n.deployments / by, n.projects / by, n.keys / by}
}

// firstID leaves ids below it to what the set-up calls make.
const firstID = 1000

// What every profile of the seed grants: some models that many use, and some that few do.
const (
	popularModels = 20
	manyUse       = 5
	fewUse        = 5
)

// A seeder fills a database in bulk: rows as the program itself would write them, but thousands at once.
type seeder struct {
	size
	conn   *pgx.Conn
	store  *store.Store
	hasher logos.Hasher
	mocks  []string // addresses that the providers' base URLs lead to
}

// seed fills the database of a product that is set up. Every row is valid: hashes are keyed with the
// installation's own key, and credentials are encrypted under its master key.
func seed(ctx context.Context, databaseURL, dir string, n size, mocks []string) (err error) {
	s := seeder{size: n, mocks: mocks}
	if s.store, err = openStore(ctx, databaseURL, dir); err != nil {
		return err
	}
	defer s.store.Close()
	config, err := s.store.Load(ctx)
	if err != nil {
		return err
	}
	s.hasher = config.Hasher
	if s.conn, err = pgx.Connect(ctx, databaseURL); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := change(ctx, s.conn, s.outer); err != nil {
		return fmt.Errorf("seed providers, models and projects: %w", err)
	}
	if err := s.credentials(ctx); err != nil {
		return fmt.Errorf("seed credentials: %w", err)
	}
	if _, err := change(ctx, s.conn, s.inner); err != nil {
		return fmt.Errorf("seed deployments, profiles and keys: %w", err)
	}
	if _, err := s.conn.Exec(ctx, "analyze"); err != nil {
		return err
	}
	_, err = s.conn.Exec(ctx, "checkpoint") // it would be part of the next stop
	return err
}

// openStore opens the database of the product in that directory.
func openStore(ctx context.Context, databaseURL, dir string) (*store.Store, error) {
	keys, err := store.NewKeyring(func() (string, error) {
		text, err := os.ReadFile(filepath.Join(dir, "data", "master.key"))
		return string(text), err
	})
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, databaseURL, zap.NewNop())
	if err != nil {
		return nil, err
	}
	if err := s.Unlock(ctx, keys); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// readHasher returns what hashes the API keys of the product in that directory.
func readHasher(ctx context.Context, databaseURL, dir string) (logos.Hasher, error) {
	s, err := openStore(ctx, databaseURL, dir)
	if err != nil {
		return logos.Hasher{}, err
	}
	defer s.Close()
	config, err := s.Load(ctx)
	if err != nil {
		return logos.Hasher{}, err
	}
	return config.Hasher, nil
}

// change writes one revision, as the store does, and tells the gateways of it. It returns when the commit
// was asked for.
func change(ctx context.Context, conn *pgx.Conn, do func(context.Context, pgx.Tx, int64) error) (committing time.Time, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var revision int64
		err := tx.QueryRow(ctx, "update config_revision set revision = revision + 1, changed_at = clock_timestamp() returning revision").Scan(&revision)
		if err != nil {
			return err
		}
		if err := do(ctx, tx, revision); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "select pg_notify('logos_config', $1)", fmt.Sprint(revision))
		committing = time.Now()
		return err
	})
	return committing, err
}

// outer seeds what refers to nothing.
func (s *seeder) outer(ctx context.Context, tx pgx.Tx, revision int64) error {
	return errors.Join(
		s.copy(ctx, tx, "providers", "id name base_url dialect auth_header auth_format revision", s.providers, func(i int) []any {
			base := "http://" + s.mocks[i%len(s.mocks)] + "/v1"
			return []any{firstID + i, fmt.Sprintf("provider-%04d", i), base, "openai", "authorization", "Bearer {}", revision}
		}),
		s.copy(ctx, tx, "models", "id name revision", s.models, func(i int) []any {
			return []any{firstID + i, fmt.Sprintf("model-%04d", i), revision}
		}),
		s.copy(ctx, tx, "projects", "id name revision", s.projects, func(i int) []any {
			return []any{firstID + i, fmt.Sprintf("project-%05d", i), revision}
		}))
}

// credentials seeds one for each provider. They are added by the store, which alone can encrypt them.
func (s *seeder) credentials(ctx context.Context) error {
	if _, err := s.conn.Exec(ctx, "select setval(pg_get_serial_sequence('credentials', 'id'), $1, false)", firstID); err != nil {
		return err
	}
	_, err := s.store.Change(ctx, store.Actor{Method: "seed"}, func(ctx context.Context, tx *store.Tx) error {
		for i := range s.providers {
			id, err := tx.AddCredential(ctx, logos.ProviderID(firstID+i), logos.Secret(fmt.Sprintf("sk-seeded-%04d", i)))
			if err != nil {
				return err
			}
			if id != logos.CredentialID(firstID+i) {
				return fmt.Errorf("credential %d has id %d", i, id)
			}
		}
		return nil
	})
	return err
}

// inner seeds what refers to the rest.
func (s *seeder) inner(ctx context.Context, tx pgx.Tx, revision int64) error {
	// The triggers would touch each profile once for each of its grants.
	if _, err := tx.Exec(ctx, "set local session_replication_role = replica"); err != nil {
		return err
	}
	return errors.Join(
		s.copy(ctx, tx, "deployments", "id model_id provider_id credential_id revision", s.deployments, func(i int) []any {
			var credential any // null: that of the profile
			if s.credentialed(i) {
				credential = firstID + s.providerOf(i)
			}
			return []any{firstID + i, firstID + i%s.models, firstID + s.providerOf(i), credential, revision}
		}),
		s.copy(ctx, tx, "profiles", "id project_id name passthrough revision", s.projects, func(i int) []any {
			return []any{firstID + i, firstID + i, "default", i%100 == 0, revision}
		}),
		s.grants(ctx, tx),
		s.copy(ctx, tx, "api_keys", "id project_id role name hash hint revision", s.keys, func(i int) []any {
			secret := seededKey(i)
			hash := s.hasher.APIKey(secret)
			return []any{firstID + i, firstID + i%s.projects, "member", fmt.Sprintf("seeded-%06d", i), hash[:], secret[len(secret)-4:], revision}
		}))
}

// providerOf spreads the deployments of a model over providers, none of which has it twice.
func (s *seeder) providerOf(deployment int) int {
	return (deployment*7 + deployment/s.models) % s.providers
}

// credentialed says whether a deployment has a credential of its own: all of four models in five.
func (s *seeder) credentialed(deployment int) bool { return deployment%s.models%5 != 4 }

// grants gives each profile its models, and the credentials of providers at which some of them are.
func (s *seeder) grants(ctx context.Context, tx pgx.Tx) error {
	type pair struct{ profile, other int }
	var models, providers []pair
	for p := range s.projects {
		own := make([]int, 0, manyUse+fewUse)
		for i := range manyUse {
			own = append(own, (p+i*3)%popularModels)
		}
		for i := range fewUse {
			own = append(own, (p+i*377)%s.models)
		}
		slices.Sort(own)
		own = slices.Compact(own)
		var at []int
		for _, m := range own {
			models = append(models, pair{p, m})
			for d := m; d < s.deployments && !s.credentialed(d); d += s.models {
				at = append(at, s.providerOf(d)) // else it could not be used
			}
		}
		if len(at) == 0 {
			at = append(at, p%s.providers)
		}
		slices.Sort(at)
		at = slices.Compact(at)
		for _, provider := range at {
			providers = append(providers, pair{p, provider})
		}
	}
	return errors.Join(
		s.copy(ctx, tx, "profile_models", "profile_id model_id id", len(models), func(i int) []any {
			return []any{firstID + models[i].profile, firstID + models[i].other, firstID + i}
		}),
		s.copy(ctx, tx, "profile_providers", "profile_id provider_id credential_id position", len(providers), func(i int) []any {
			return []any{firstID + providers[i].profile, firstID + providers[i].other, firstID + providers[i].other, firstID + i}
		}))
}

// copy writes rows, and makes the table's identity go on behind them. Its columns are separated by blanks;
// the identity is one of "id" and "position".
func (s *seeder) copy(ctx context.Context, tx pgx.Tx, table, columns string, rows int, row func(i int) []any) error {
	list := strings.Fields(columns)
	_, err := tx.CopyFrom(ctx, pgx.Identifier{table}, list, pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return row(i), nil }))
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	identity := "id"
	if slices.Contains(list, "position") {
		identity = "position"
	}
	_, err = tx.Exec(ctx, "select setval(pg_get_serial_sequence($1, $2), $3)", table, identity, firstID+rows)
	return err
}

// seededKey is the secret of a seeded API key.
func seededKey(i int) string { return fmt.Sprintf("%sseeded%026d", logos.KeyPrefix, i) }
