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

// Load compiles the present revision of the configuration from nothing.
func (s *Store) Load(ctx context.Context) (*logos.Config, error) {
	l := loader{store: s}
	var config *logos.Config
	err := pgx.BeginTxFunc(ctx, s.pool, oneMoment, func(tx pgx.Tx) (err error) {
		config, err = l.load(ctx, db.New(tx))
		return err
	})
	return config, err
}

// oneMoment makes all tables be read as they were at one moment: a revision is never seen in part.
var oneMoment = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// A loader follows the configuration from one revision to the next. It reads the rows that have changed
// since the last, and everything where there is no last. It relies on this: every change of a row sets the
// row's revision, deletion included, and changes are made one after another, since each begins with
// updating the one row of config_revision; so a snapshot with a revision has every row of those before it.
type loader struct {
	store    *Store
	compiler *logos.Compiler // nil: everything is to be read
	revision int64
}

// load returns the configuration of the revision that the transaction sees. After an error the next call
// reads everything.
func (l *loader) load(ctx context.Context, q *db.Queries) (*logos.Config, error) {
	present, err := q.Revision(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the revision: %w", err)
	}
	compiler, since := l.compiler, l.revision
	l.compiler = nil
	if compiler == nil || present.Revision < since { // it goes back where a backup was restored
		compiler, since = logos.NewCompiler(l.store.hasher), -1
	}
	changes, err := l.store.changes(ctx, q, since)
	if err != nil {
		return nil, fmt.Errorf("load the configuration: %w", err)
	}
	config, err := compiler.Apply(present.Revision, changes)
	if err != nil {
		return nil, fmt.Errorf("compile revision %d of the configuration: %w", present.Revision, err)
	}
	l.compiler, l.revision = compiler, present.Revision
	return config, nil
}

// changes reads the rows that revisions after since have changed; below 0: all that there are.
func (s *Store) changes(ctx context.Context, q *db.Queries, since int64) (c logos.Changes, err error) {
	for _, read := range []func(context.Context, *db.Queries, int64, *logos.Changes) error{
		readTeams, readProjects, readMembers, readKeys, readProfiles, readProviders, s.readCredentials, readModels, readDeployments,
		readPrices, s.readBudgets, s.readPolicies, s.readSettings,
	} {
		if err := read(ctx, q, since, &c); err != nil {
			return c, err
		}
	}
	return c, nil
}

func readTeams(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedTeams(ctx, since)
	for _, x := range rows {
		if x.Gone {
			c.Gone.Teams = append(c.Gone.Teams, logos.TeamID(x.ID))
			continue
		}
		labels, err := labels("team", x.ID, x.Labels)
		if err != nil {
			return err
		}
		c.Teams = append(c.Teams, &logos.Team{ID: logos.TeamID(x.ID), Name: x.Name, Labels: labels})
	}
	return err
}

func readProjects(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedProjects(ctx, since)
	for _, x := range rows {
		if x.Gone {
			c.Gone.Projects = append(c.Gone.Projects, logos.ProjectID(x.ID))
			continue
		}
		labels, err := labels("project", x.ID, x.Labels)
		if err != nil {
			return err
		}
		c.Projects = append(c.Projects, &logos.Project{ID: logos.ProjectID(x.ID), TeamID: logos.TeamID(zero(x.TeamID)), Name: x.Name, Labels: labels})
	}
	return err
}

func readMembers(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedMembers(ctx, since)
	for _, x := range rows {
		if x.Gone {
			c.Gone.Members = append(c.Gone.Members, logos.MemberID(x.ID))
			continue
		}
		c.Members = append(c.Members, &logos.Member{ID: logos.MemberID(x.ID), Role: logos.Role(x.Role)})
	}
	return err
}

func readKeys(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedAPIKeys(ctx, since)
	for i := range rows {
		x := &rows[i]
		if x.Gone {
			c.Gone.APIKeys = append(c.Gone.APIKeys, logos.APIKeyID(x.ID))
			continue
		}
		k, err := readKey(x)
		if err != nil {
			return err
		}
		c.APIKeys = append(c.APIKeys, k)
	}
	return err
}

func readKey(x *db.ChangedAPIKeysRow) (*logos.APIKey, error) {
	k := &logos.APIKey{
		ID: logos.APIKeyID(x.ID), ProjectID: logos.ProjectID(x.ProjectID), ProfileID: logos.ProfileID(zero(x.ProfileID)),
		MemberID: logos.MemberID(zero(x.MemberID)), Name: x.Name, Role: role(x.Role), Revoked: x.RevokedAt != nil, ExpiresAt: zero(x.ExpiresAt),
		PreviousExpiresAt: zero(x.PreviousExpiresAt), Digest: x.Digest, APIs: x.AllowedApis,
	}
	var err error
	if k.Labels, err = labels("api key", x.ID, x.Labels); err != nil {
		return nil, err
	}
	copy(k.PreviousHash[:], x.PreviousHash)
	for _, id := range x.AllowedModels {
		k.Models = append(k.Models, logos.ModelID(id))
	}
	for _, text := range x.AllowedCidrs {
		prefix, err := logos.ParseSource(text)
		if err != nil {
			return nil, fmt.Errorf("api key %d has an unreadable source range", x.ID)
		}
		k.Sources = append(k.Sources, prefix)
	}
	if copy(k.Hash[:], x.Hash) != len(k.Hash) {
		return nil, fmt.Errorf("api key %d has a hash of %d bytes", x.ID, len(x.Hash))
	}
	return k, nil
}

// role makes keys share the text of their role, of which each row brings its own.
func role(text string) logos.Role {
	for _, r := range []logos.Role{logos.RoleService, logos.RoleMember, logos.RoleViewer, logos.RoleTeamOwner, logos.RoleAdmin, logos.RoleRoot} {
		if text == string(r) {
			return r
		}
	}
	return logos.Role(text)
}

func readProfiles(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedProfiles(ctx, since)
	if err != nil {
		return err
	}
	byID := make(map[int64]*logos.Profile, len(rows))
	for _, x := range rows {
		if x.Gone {
			c.Gone.Profiles = append(c.Gone.Profiles, logos.ProfileID(x.ID))
			continue
		}
		p := &logos.Profile{ID: logos.ProfileID(x.ID), ProjectID: logos.ProjectID(x.ProjectID), Name: x.Name, Passthrough: x.Passthrough}
		byID[x.ID] = p
		c.Profiles = append(c.Profiles, p)
	}
	if len(byID) == 0 {
		return nil
	}
	grants, err := q.ChangedProfileProviders(ctx, since)
	if err != nil {
		return err
	}
	for _, g := range grants {
		p := byID[g.ProfileID]
		p.Grants = append(p.Grants, logos.Grant{Provider: logos.ProviderID(g.ProviderID), Credential: logos.CredentialID(zero(g.CredentialID))})
	}
	models, err := q.ChangedProfileModels(ctx, since)
	for _, g := range models {
		p := byID[g.ProfileID]
		p.Models = append(p.Models, logos.ModelID(g.ModelID))
	}
	return err
}

func readProviders(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedProviders(ctx, since)
	for _, x := range rows {
		if x.Gone {
			c.Gone.Providers = append(c.Gone.Providers, logos.ProviderID(x.ID))
			continue
		}
		base, err := url.Parse(x.BaseUrl)
		if err != nil {
			return fmt.Errorf("provider %d has no readable base URL", x.ID)
		}
		p := &logos.Provider{
			ID: logos.ProviderID(x.ID), Name: x.Name, BaseURL: base, Dialect: logos.Dialect(x.Dialect),
			AuthHeader: x.AuthHeader, AuthFormat: x.AuthFormat, PrivacyZone: privacyZone(x.PrivacyZone),
		}
		if p.Labels, err = labels("provider", x.ID, x.Labels); err != nil {
			return err
		}
		c.Providers = append(c.Providers, p)
	}
	return err
}

// labels decodes the labels of a row.
func labels(what string, id int64, text []byte) (map[string]string, error) {
	m, err := readMap[string](text)
	if err != nil {
		return nil, fmt.Errorf("read the labels of %s %d: %w", what, id, err)
	}
	return m, nil
}

// privacyZone reads a zone. One that is not known here counts as anywhere, like any other that is unknown.
func privacyZone(text string) logos.PrivacyZone {
	z, err := logos.ParsePrivacyZone(text)
	if err != nil {
		return logos.ZoneAnywhere
	}
	return z
}

func (s *Store) readCredentials(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedCredentials(ctx, since)
	for _, x := range rows {
		if x.Gone {
			c.Gone.Credentials = append(c.Gone.Credentials, logos.CredentialID(x.ID))
			continue
		}
		secret, err := s.master.unseal(sealed{keyID: x.KeyID, dataKey: x.DataKey, secret: x.Secret})
		if err != nil {
			return fmt.Errorf("decrypt credential %d: %w", x.ID, err)
		}
		c.Credentials = append(c.Credentials, &logos.Credential{ID: logos.CredentialID(x.ID), Provider: logos.ProviderID(x.ProviderID), Name: x.Name, Secret: logos.Secret(secret)})
	}
	return err
}

func readModels(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedModels(ctx, since)
	for _, x := range rows {
		if x.Gone {
			c.Gone.Models = append(c.Gone.Models, logos.ModelID(x.ID))
			continue
		}
		m := &logos.Model{
			ID: logos.ModelID(x.ID), Name: x.Name, Endpoint: x.Endpoint, Capabilities: x.Capabilities, ContextWindow: zero(x.ContextWindow),
			MaxOutputTokens: zero(x.MaxOutputTokens), Quality: x.Quality, Accuracy: x.Accuracy,
		}
		if m.Labels, err = labels("model", x.ID, x.Labels); err != nil {
			return err
		}
		if err := readDeclared(&x, m); err != nil {
			return fmt.Errorf("read what model %d declares: %w", x.ID, err)
		}
		c.Models = append(c.Models, m)
	}
	return err
}

func readDeclared(x *db.ChangedModelsRow, m *logos.Model) (err error) {
	if m.TaskQuality, err = readMap[float64](x.TaskQuality); err != nil {
		return err
	}
	m.TaskAccuracy, err = readMap[float64](x.TaskAccuracy)
	return err
}

func readDeployments(ctx context.Context, q *db.Queries, since int64, c *logos.Changes) error {
	rows, err := q.ChangedDeployments(ctx, since)
	for _, x := range rows {
		if x.Gone {
			c.Gone.Deployments = append(c.Gone.Deployments, logos.DeploymentID(x.ID))
			continue
		}
		d := &logos.Deployment{
			ID: logos.DeploymentID(x.ID), Model: logos.ModelID(x.ModelID), Provider: logos.ProviderID(x.ProviderID),
			Credential: logos.CredentialID(zero(x.CredentialID)), ProviderModel: x.ProviderModel, Endpoint: x.Endpoint,
			IncludeUsage: x.IncludeUsage, MaxParallel: int(x.MaxParallel), Drained: x.Drained,
		}
		if d.Labels, err = labels("deployment", x.ID, x.Labels); err != nil {
			return err
		}
		for _, api := range x.Apis {
			d.APIs = append(d.APIs, logos.API(api))
		}
		c.Deployments = append(c.Deployments, d)
	}
	return err
}

// readSettings reads what settings say, which is one row.
func (s *Store) readSettings(ctx context.Context, q *db.Queries, _ int64, r *logos.Changes) error {
	row, err := q.LoadSettings(ctx)
	if err != nil {
		return err
	}
	r.Tasks, r.Egress.Hosts = s.readMatchers(row.TaskMatchers), row.EgressHosts
	for _, text := range row.EgressCidrs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("the settings allow an unreadable range of addresses: %.64q", text)
		}
		r.Egress.Ranges = append(r.Egress.Ranges, prefix)
	}
	return nil
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
