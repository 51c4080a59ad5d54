package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// A Tx is one change of the configuration, which becomes one revision.
type Tx struct {
	store    *Store
	tx       pgx.Tx
	q        *db.Queries
	actor    Actor
	revision int64

	touches []touch // in order
	touched map[touchKey]int
	deleted []touchKey
}

// Change makes one change. All of it happens, with a new revision that every gateway is told of, or, if
// do returns an error, nothing. Changes are made one after another; actor is who makes it. It returns the
// revision.
func (s *Store) Change(ctx context.Context, actor Actor, do func(context.Context, *Tx) error) (revision int64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		if revision, err = q.NextRevision(ctx); err != nil {
			return err
		}
		t := &Tx{store: s, tx: tx, q: q, actor: actor, revision: revision, touched: make(map[touchKey]int)}
		if err := do(ctx, t); err != nil {
			return err
		}
		if err := t.KeepRoot(ctx); err != nil {
			return err
		}
		if err := t.audit(ctx); err != nil {
			return err
		}
		return q.Notify(ctx, logos.FormatID(revision))
	})
	return revision, expected(err)
}

// KeepRoot refuses a change that ends, or dates, the last root key that works without an end. Every change is
// checked so when it ends.
func (t *Tx) KeepRoot(ctx context.Context) error {
	had := false
	for _, doc := range t.Before(APIKeys) {
		var k struct {
			Role, State string
			Expires     *time.Time `json:"expire_time"`
		}
		if err := json.Unmarshal(doc, &k); err != nil {
			return fmt.Errorf("read an API key: %w", err)
		}
		had = had || k.Role == string(logos.RoleRoot) && k.State == "active" && k.Expires == nil
	}
	if !had {
		return nil
	}
	left, err := t.q.RootKeyLeft(ctx)
	if err == nil && !left {
		err = logos.Errorf(logos.Conflict, "last_root_key", "no root key would be left that works and does not expire: make another one first")
	}
	return err
}

// taken says of which constraint what is there already.
var taken = map[string]string{
	"teams_name":             "there is a team with this name already",
	"projects_name":          "there is a project with this name already",
	"members_email":          "there is a member with this email address already",
	"profiles_name":          "the project has an access profile with this name already",
	"providers_name":         "there is a provider with this name already",
	"providers_unique_name":  "there is a provider with this name already",
	"credentials_name":       "the provider has a credential with this name already",
	"credentials_hash":       "the provider has a credential with this secret already",
	"budgets_name":           "there is a budget with this name already",
	"models_name":            "there is a model with this name already",
	"policies_name":          "there is a policy with this name already, on the same level and of the same owner",
	"deployments_name":       "the model has a deployment with this name at this provider already: give each a name of its own",
	"prices_name":            "there is a price with this name already",
	"prices_same":            "there is a price of the same, for the same calls and from the same moment already: change that one",
	"api_keys_hash":          "this secret is, or was, that of another API key: secrets are used once",
	"api_keys_previous_hash": "this secret is, or was, that of another API key: secrets are used once",
}

// expected makes refusals of what the database finds wrong with the data itself.
func expected(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch pg.Code {
	case "23505":
		if message, ok := taken[pg.ConstraintName]; ok {
			return logos.Errorf(logos.Exists, "exists", "%s", message)
		}
		return logos.Errorf(logos.Exists, "exists", "there is one already (%s)", pg.ConstraintName)
	case "23514":
		return logos.Errorf(logos.Invalid, "invalid_value", "a value is not allowed (%s)", pg.ConstraintName)
	case "22021", "22P05":
		return logos.Errorf(logos.Invalid, "invalid_text", "a text holds a character that can't be stored")
	}
	return err
}

// MarkSetUp says that the root user is there. It refuses to do so twice.
func (t *Tx) MarkSetUp(ctx context.Context) error {
	n, err := t.q.MarkSetUp(ctx)
	if err == nil && n == 0 {
		return logos.Errorf(logos.Exists, "already_set_up", "the database is set up already: use the root key that the first set-up answered with")
	}
	return err
}

// AddProject adds a project.
func (t *Tx) AddProject(ctx context.Context, name string, demo bool) (logos.ProjectID, error) {
	id, err := t.q.InsertProject(ctx, db.InsertProjectParams{Name: name, Demo: demo, Revision: t.revision})
	return logos.ProjectID(id), t.created(ctx, Projects, id, err)
}

// AddProfile adds an access profile to a project.
func (t *Tx) AddProfile(ctx context.Context, project logos.ProjectID, name string, passthrough bool) (logos.ProfileID, error) {
	if ok, err := t.q.ProjectExists(ctx, int64(project)); err != nil {
		return 0, err
	} else if !ok {
		return 0, missing("process", project)
	}
	id, err := t.q.InsertProfile(ctx, db.InsertProfileParams{ProjectID: int64(project), Name: name, Passthrough: passthrough, Revision: t.revision})
	return logos.ProfileID(id), t.created(ctx, AccessProfiles, id, err)
}

// AddAPIKey makes an API key of a project and returns its secret, which is not kept.
func (t *Tx) AddAPIKey(ctx context.Context, project logos.ProjectID, role logos.Role, name string) (logos.Secret, error) {
	values := Columns{"project_id": int64(project), "role": string(role), "name": name}
	secret := t.NewSecret(values)
	id, err := t.Insert(ctx, APIKeys, values)
	return secret, t.created(ctx, APIKeys, id, err)
}

// AddProvider returns the provider with that name and base URL, adding it if there is none. Where the
// provider has no way to authenticate yet, it gets this one.
func (t *Tx) AddProvider(ctx context.Context, p *logos.Provider) (logos.ProviderID, error) {
	known, err := t.q.ProviderByName(ctx, db.ProviderByNameParams{Name: p.Name, BaseUrl: p.BaseURL.String()})
	if errors.Is(err, pgx.ErrNoRows) {
		id, err := t.q.InsertProvider(ctx, db.InsertProviderParams{
			Name: p.Name, BaseUrl: p.BaseURL.String(), Dialect: string(p.Dialect), AuthHeader: p.AuthHeader, AuthFormat: p.AuthFormat, Revision: t.revision,
		})
		return logos.ProviderID(id), t.created(ctx, Providers, id, err)
	}
	if err != nil || p.AuthHeader == "" || (known.AuthHeader == p.AuthHeader && known.AuthFormat == p.AuthFormat) {
		return logos.ProviderID(known.ID), err
	}
	if known.AuthHeader != "" {
		return 0, logos.Errorf(logos.Exists, "provider_differs", "the provider %q authenticates with %q in the form %q already: use those, or another provider_name", p.Name, known.AuthHeader, known.AuthFormat)
	}
	return logos.ProviderID(known.ID), t.Audited(ctx, Providers, known.ID, func(ctx context.Context) error {
		return t.q.SetProviderAuth(ctx, db.SetProviderAuthParams{ID: known.ID, AuthHeader: p.AuthHeader, AuthFormat: p.AuthFormat, Revision: t.revision})
	})
}

// AllowEgress lets providers be at a host though its addresses are not public.
func (t *Tx) AllowEgress(ctx context.Context, host string) error {
	return t.Audited(ctx, settings, 0, func(ctx context.Context) error {
		return t.q.AllowEgressHost(ctx, db.AllowEgressHostParams{Host: host, Revision: t.revision})
	})
}

// AddCredential returns the provider's credential with that secret, adding it if there is none.
func (t *Tx) AddCredential(ctx context.Context, provider logos.ProviderID, secret logos.Secret) (logos.CredentialID, error) {
	hash := t.store.credentialHash(secret)
	id, err := t.q.CredentialByHash(ctx, db.CredentialByHashParams{ProviderID: int64(provider), Hash: hash})
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return logos.CredentialID(id), err
	}
	s, err := t.seal(ctx, secret)
	if err != nil {
		return 0, fmt.Errorf("encrypt a credential: %w", err)
	}
	id, err = t.q.InsertCredential(ctx, db.InsertCredentialParams{
		ProviderID: int64(provider), KeyID: s.keyID, DataKey: s.dataKey, Secret: s.secret, Hash: hash, Revision: t.revision,
	})
	return logos.CredentialID(id), t.created(ctx, Credentials, id, err)
}

// Seal adds the columns of a credential's secret, encrypted.
func (t *Tx) Seal(ctx context.Context, values Columns, secret logos.Secret) error {
	s, err := t.seal(ctx, secret)
	if err != nil {
		return fmt.Errorf("encrypt a credential: %w", err)
	}
	values["key_id"], values["data_key"], values["secret"], values["hash"] = s.keyID, s.dataKey, s.secret, t.store.credentialHash(secret)
	return nil
}

// HasSecret says whether a credential's secret is this one.
func (t *Tx) HasSecret(ctx context.Context, id logos.CredentialID, secret logos.Secret) (bool, error) {
	known, err := t.q.CredentialsByHash(ctx, t.store.credentialHash(secret))
	return slices.Contains(known, int64(id)), err
}

// AddModel adds a model.
func (t *Tx) AddModel(ctx context.Context, name, endpoint string) (logos.ModelID, error) {
	id, err := t.q.InsertModel(ctx, db.InsertModelParams{Name: name, Endpoint: endpoint, Revision: t.revision})
	if refused := expected(err); logos.KindOf(refused) == logos.Exists {
		return 0, logos.Errorf(logos.Exists, "exists", "there is a model %q already", name)
	}
	return logos.ModelID(id), t.created(ctx, Models, id, err)
}

// AddDeployment returns the deployment of a model at a provider, adding it if there is none.
func (t *Tx) AddDeployment(ctx context.Context, model logos.ModelID, provider logos.ProviderID) (logos.DeploymentID, error) {
	if err := t.needModel(ctx, model); err != nil {
		return 0, err
	}
	if ok, err := t.q.ProviderExists(ctx, int64(provider)); err != nil {
		return 0, err
	} else if !ok {
		return 0, missing("provider", provider)
	}
	id, err := t.q.DeploymentByPair(ctx, db.DeploymentByPairParams{ModelID: int64(model), ProviderID: int64(provider)})
	if errors.Is(err, pgx.ErrNoRows) {
		id, err = t.q.InsertDeployment(ctx, db.InsertDeploymentParams{ModelID: int64(model), ProviderID: int64(provider), Revision: t.revision})
		err = t.created(ctx, Deployments, id, err)
	}
	return logos.DeploymentID(id), err
}

// SetDeploymentCredential makes a model's deployment at the credential's provider use that credential.
func (t *Tx) SetDeploymentCredential(ctx context.Context, model logos.ModelID, credential logos.CredentialID) error {
	if err := t.needModel(ctx, model); err != nil {
		return err
	}
	provider, err := t.credentialProvider(ctx, credential)
	if err != nil {
		return err
	}
	id, err := t.q.DeploymentByPair(ctx, db.DeploymentByPairParams{ModelID: int64(model), ProviderID: int64(provider)})
	if errors.Is(err, pgx.ErrNoRows) {
		return logos.Errorf(logos.NotFound, "no_deployment", "model %d is not connected to provider %d, to which the api belongs: call connect_model_provider first", model, provider)
	}
	if err != nil {
		return err
	}
	return t.Audited(ctx, Deployments, id, func(ctx context.Context) error {
		return t.q.SetDeploymentCredential(ctx, db.SetDeploymentCredentialParams{ID: id, CredentialID: null(credential), Revision: t.revision})
	})
}

// GrantProvider lets a profile use a provider, with a credential of that provider or, with 0, with the
// caller's own.
func (t *Tx) GrantProvider(ctx context.Context, profile logos.ProfileID, provider logos.ProviderID, credential logos.CredentialID) error {
	return t.Audited(ctx, AccessProfiles, int64(profile), func(ctx context.Context) error {
		return t.q.GrantProvider(ctx, db.GrantProviderParams{ProfileID: int64(profile), ProviderID: int64(provider), CredentialID: null(credential)})
	})
}

// GrantCredential lets a profile use a credential.
func (t *Tx) GrantCredential(ctx context.Context, profile logos.ProfileID, credential logos.CredentialID) error {
	if _, err := t.profileProject(ctx, profile); err != nil {
		return err
	}
	provider, err := t.credentialProvider(ctx, credential)
	if err != nil {
		return err
	}
	return t.GrantProvider(ctx, profile, provider, credential)
}

// GrantModel lets a profile use a model, and returns the id of the grant. first says that no profile of
// the project had a model before.
func (t *Tx) GrantModel(ctx context.Context, profile logos.ProfileID, model logos.ModelID) (grant int64, first bool, err error) {
	project, err := t.profileProject(ctx, profile)
	if err != nil {
		return 0, false, err
	}
	if err := t.needModel(ctx, model); err != nil {
		return 0, false, err
	}
	had, err := t.q.ProjectHasModels(ctx, int64(project))
	if err != nil {
		return 0, false, err
	}
	err = t.Audited(ctx, AccessProfiles, int64(profile), func(ctx context.Context) error {
		grant, err = t.q.GrantModel(ctx, db.GrantModelParams{ProfileID: int64(profile), ModelID: int64(model)})
		return err
	})
	return grant, !had, err
}

// created adds the audit event of a row that was inserted, unless that failed.
func (t *Tx) created(ctx context.Context, k *Kind, id int64, err error) error {
	if err != nil {
		return err
	}
	return t.Created(ctx, k, id)
}

func (t *Tx) needModel(ctx context.Context, model logos.ModelID) error {
	ok, err := t.q.ModelExists(ctx, int64(model))
	if err == nil && !ok {
		return missing("model", model)
	}
	return err
}

func (t *Tx) profileProject(ctx context.Context, profile logos.ProfileID) (logos.ProjectID, error) {
	id, err := t.q.ProfileProject(ctx, int64(profile))
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, missing("profile", profile)
	}
	return logos.ProjectID(id), err
}

func (t *Tx) credentialProvider(ctx context.Context, credential logos.CredentialID) (logos.ProviderID, error) {
	id, err := t.q.CredentialProvider(ctx, int64(credential))
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, missing("api", credential)
	}
	return logos.ProviderID(id), err
}

func missing[T ~int64](what string, id T) error {
	return logos.Errorf(logos.NotFound, "not_found", "there is no %s with id %d", what, id)
}
