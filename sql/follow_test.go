package store_test

import (
	"context"
	"crypto/rand"
	"fmt"
	random "math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// A writer changes a database at random, as the admin API does and as the program of the release before did.
type writer struct {
	t      *testing.T
	store  *store.Store
	conn   *pgx.Conn
	rand   *random.Rand
	hashes []logos.KeyHash // that some key ever had
}

// kinds are the tables with rows that come and go.
var kinds = []string{"teams", "projects", "members", "profiles", "api_keys", "providers", "credentials", "models", "deployments", "policies", "budgets"}

// some returns the id of some row of a table, deleted or not.
func (w *writer) some(table string) int64 {
	ids := column[int64](w.t, w.conn, "select id from "+table+" order by id")
	return ids[w.rand.IntN(len(ids))]
}

// credentialOf returns some credential of a provider, deleted or not, or nil.
func (w *writer) credentialOf(provider int64) *int64 {
	ids := column[int64](w.t, w.conn, "select id from credentials where provider_id = $1 order by id", provider)
	if len(ids) == 0 || w.rand.IntN(3) == 0 {
		return nil
	}
	return &ids[w.rand.IntN(len(ids))]
}

func (w *writer) hash() []byte {
	var h logos.KeyHash
	rand.Read(h[:])
	w.hashes = append(w.hashes, h)
	return h[:]
}

func (w *writer) name() string { return rand.Text() }

// change makes one revision of one to three changes.
func (w *writer) change() {
	if w.rand.IntN(12) == 0 {
		provider := w.some("providers")
		_, err := w.store.Change(w.t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.AddCredential(ctx, logos.ProviderID(provider), logos.Secret(w.name()))
			return err
		})
		if err != nil {
			w.t.Fatal(err)
		}
		return
	}
	revision := one[int64](w.t, w.conn, "select revision + 1 from config_revision")
	exec(w.t, w.conn, "begin")
	exec(w.t, w.conn, "update config_revision set revision = $1, changed_at = clock_timestamp()", revision)
	for range 1 + w.rand.IntN(3) {
		w.step(revision)
	}
	exec(w.t, w.conn, "select pg_notify('logos_config', '')")
	exec(w.t, w.conn, "commit")
}

func (w *writer) step(revision int64) {
	do := func(statement string, args ...any) { exec(w.t, w.conn, statement, append([]any{revision}, args...)...) }
	switch w.rand.IntN(32) {
	case 0:
		do("insert into projects (revision, name) values ($1, $2)", w.name())
	case 1:
		do("insert into members (revision, email, role) values ($1, $2, 'member')", w.name())
	case 2:
		do("insert into profiles (revision, project_id, name) values ($1, $2, $3)", w.some("projects"), w.name())
	case 3:
		do("insert into api_keys (revision, project_id, role, hash) values ($1, $2, 'service', $3)", w.some("projects"), w.hash())
	case 4:
		do("insert into api_keys (revision, project_id, member_id, role, hash) values ($1, $2, $3, 'member', $4)", w.some("projects"), w.some("members"), w.hash())
	case 5:
		do("update api_keys set previous_hash = hash, previous_expires_at = now() + interval '1 hour', hash = $3, revision = $1 where id = $2", w.some("api_keys"), w.hash())
	case 6:
		do("update api_keys set revoked_at = now(), allowed_models = '{1}', allowed_cidrs = '{10.0.0.0/8}', project_id = $3, revision = $1 where id = $2", w.some("api_keys"), w.some("projects"))
	case 7:
		do("update members set role = case role when 'member' then 'viewer' else 'member' end, revision = $1 where id = $2", w.some("members"))
	case 8:
		do("insert into providers (revision, name, base_url, dialect) values ($1, $2, $3, 'openai')", w.name(), "https://"+w.name()+".example")
	case 9:
		do("update providers set base_url = $3, auth_header = 'api-key', revision = $1 where id = $2", w.some("providers"), "https://"+w.name()+".example")
	case 10:
		do("insert into models (revision, name) values ($1, $2)", w.name())
	case 11:
		do("update models set name = $3, revision = $1 where id = $2", w.some("models"), w.name())
	case 12:
		provider := w.some("providers")
		do("insert into deployments (revision, model_id, provider_id, name, credential_id) values ($1, $2, $3, $4, $5)", w.some("models"), provider, w.name(), w.credentialOf(provider))
	case 18:
		do("update deployments set credential_id = null, max_parallel = max_parallel + 1, revision = $1 where id = $2", w.some("deployments"))
	case 13, 14, 15, 16: // a grant, which tells of the profile by a trigger alone
		w.grant()
	case 17: // a secret that comes again after its key was deleted
		do(`insert into api_keys (revision, project_id, role, hash) select $1, $2, 'service', hash from api_keys d
			where deleted_at is not null and not exists (select from api_keys k where k.hash = d.hash and k.deleted_at is null) limit 1`, w.some("projects"))
	case 22:
		do("insert into teams (revision, name, labels) values ($1, $2, '{\"a\": \"b\"}')", w.name())
	case 23:
		do("insert into policies (revision, name, level, project_id, spec) values ($1, $2, 'project', $3, '{\"constraints\": {\"allow\": {\"models\": []}}}')", w.name(), w.some("projects"))
	case 24:
		do("update policies set spec = '{\"when\": \"request.stream\"}', labels = '{\"c\": \"d\"}', revision = $1 where id = $2", w.some("policies"))
	case 25:
		do("update settings set task_matchers = jsonb_build_array(jsonb_build_object('name', $2::text, 'keywords', array['k'])), revision = $1", w.name())
	case 26:
		do("update projects set team_id = $3, labels = '{\"e\": \"f\"}', revision = $1 where id = $2", w.some("projects"), w.some("teams"))
	case 27:
		do("insert into budgets (revision, name, unit, amount, \"window\", hard, project_ids) values ($1, $2, 'tokens', 7, 'day', true, array[$3::bigint])", w.name(), w.some("projects"))
	case 28:
		do("update budgets set amount = amount + 1, time_zone = 'Europe/Berlin', call_labels = '{\"g\": \"h\"}', revision = $1 where id = $2", w.some("budgets"))
	default:
		table := kinds[w.rand.IntN(len(kinds))]
		unless := ""
		if table == "api_keys" {
			unless = " and not exists (select from api_keys k where k.id <> api_keys.id and k.hash = api_keys.hash and k.deleted_at is null)"
		}
		do("update "+table+" set deleted_at = case when deleted_at is null and $3 then now() end, revision = $1 where id = $2"+unless, w.some(table), w.rand.IntN(4) == 0)
	}
}

func (w *writer) grant() {
	profile := w.some("profiles")
	switch w.rand.IntN(4) {
	case 0:
		exec(w.t, w.conn, "insert into profile_models (profile_id, model_id) values ($1, $2) on conflict do nothing", profile, w.some("models"))
	case 1:
		exec(w.t, w.conn, "delete from profile_models where profile_id = $1 and model_id = $2", profile, w.some("models"))
	case 2:
		provider := w.some("providers")
		exec(w.t, w.conn, "insert into profile_providers (profile_id, provider_id, credential_id) values ($1, $2, $3) on conflict do nothing", profile, provider, w.credentialOf(provider))
	case 3:
		exec(w.t, w.conn, "delete from profile_providers where profile_id = $1 and provider_id = $2", profile, w.some("providers"))
	}
}

// answers is what a Config says about everything that there ever was.
func (w *writer) answers(c *logos.Config) map[string]any {
	out := map[string]any{"targets": c.Targets(), "policies": c.Policies(), "budgets": c.Budgets(), "tasks": *c.Tasks()}
	for _, id := range column[int64](w.t, w.conn, "select id from teams") {
		out[fmt.Sprint("team ", id)] = c.Team(logos.TeamID(id))
	}
	for _, h := range w.hashes {
		out[fmt.Sprintf("key %x", h[:4])] = c.APIKey(h)
	}
	for _, id := range column[int64](w.t, w.conn, "select id from projects") {
		out[fmt.Sprint("project ", id)] = c.Project(logos.ProjectID(id))
		out[fmt.Sprint("profiles of project ", id)] = c.Profiles(logos.ProjectID(id))
	}
	for _, id := range column[int64](w.t, w.conn, "select id from models") {
		out[fmt.Sprint("model ", id)] = c.ModelByID(logos.ModelID(id))
	}
	for _, name := range column[string](w.t, w.conn, "select name from models") {
		out["model "+name] = c.Model(name)
	}
	return out
}

// follow runs a watcher and returns the configurations that it sees.
func follow(t *testing.T, s *store.Store) <-chan *logos.Config {
	t.Helper()
	seen := make(chan *logos.Config, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- store.NewWatcher(s, prometheus.NewRegistry()).Run(ctx, func(_ context.Context, c *logos.Config, _ time.Time) { seen <- c })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the watcher ended with %v", err)
		}
	})
	return seen
}

func TestFollowingChangesGivesWhatLoadingGives(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		s, url := pgtest.Store(t)
		conn := pgtest.Conn(t, url)
		fill(t, s)
		w := &writer{t: t, store: s, conn: conn, rand: random.New(random.NewPCG(seed, 1))}
		exec(t, conn, "insert into members (email, role, revision) values ('a', 'member', 1)")
		exec(t, conn, "insert into teams (name, revision) values ('a', 1)")
		exec(t, conn, "insert into budgets (name, unit, amount, \"window\", hard, revision) values ('a', 'requests', 1, 'total', true, 1)")
		exec(t, conn, "insert into policies (name, level, revision) values ('a', 'installation', 1)")
		exec(t, conn, "update config_revision set revision = revision + 1")
		seen := follow(t, s)
		followed := <-seen
		targets := make(map[int]bool)
		for range 100 {
			w.change()
			want, err := s.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for followed.Revision < want.Revision {
				followed = <-seen
			}
			same := cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}), cmp.Comparer(func(x, y logos.Secret) bool { return x == y }),
				cmp.Comparer(func(x, y *time.Location) bool { return x.String() == y.String() })}
			if diff := cmp.Diff(w.answers(want), w.answers(followed), same); diff != "" {
				t.Fatalf("seed %d: following leads to another revision %d than loading it (-loaded +followed):\n%s", seed, want.Revision, diff)
			}
			targets[len(want.Targets())] = true
		}
		if len(targets) < 3 {
			t.Errorf("seed %d: the changes lead to few numbers of targets alone: %v", seed, targets)
		}
	}
}

func TestFollowingReadsOnlyWhatHasChanged(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	c := fill(t, s)
	seen := follow(t, s)
	before := <-seen
	if _, err := addKey(t, s, c.project); err != nil {
		t.Fatal(err)
	}
	after := <-seen
	if before.Profiles(c.project)[0] != after.Profiles(c.project)[0] || before.Targets()[0] != after.Targets()[0] {
		t.Error("a new key makes profiles and targets anew")
	}
	if before.Revision+1 != after.Revision {
		t.Errorf("revision %d comes after %d", after.Revision, before.Revision)
	}
}

func TestAnotherDatabaseIsReadAsAWhole(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	c := fill(t, s)
	for range 5 {
		if _, err := addKey(t, s, c.project); err != nil {
			t.Fatal(err)
		}
	}
	seen := follow(t, s)
	before := <-seen
	// As if a backup of an earlier state had been restored, and changed since.
	exec(t, conn, "delete from api_keys where id > 1")
	exec(t, conn, "update config_revision set revision = $1", before.Revision-3)
	after := <-seen
	if after.Revision != before.Revision-3 || len(after.Targets()) != len(before.Targets()) {
		t.Errorf("revision %d has %d targets", after.Revision, len(after.Targets()))
	}
	if k := after.APIKey(after.Hasher.APIKey(string(c.key))); k == nil {
		t.Error("the key that is there still is not known")
	}
}

func TestWhatHasChangedIsFoundByItsRevision(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	c := fill(t, s)
	exec(t, conn, "insert into api_keys (revision, project_id, role, hash) select n / 10, $1, 'service', sha256(n::text::bytea) from generate_series(1, 20000) n", c.project)
	exec(t, conn, "insert into profiles (revision, project_id, name) select n / 10, $1, 'profile-' || n from generate_series(1, 20000) n", c.project)
	exec(t, conn, "insert into profile_models (profile_id, model_id) select id, $1 from profiles on conflict do nothing", c.model)
	exec(t, conn, "update profiles set revision = id / 10") // the trigger has touched all
	exec(t, conn, "vacuum analyze")
	for query, index := range map[string]string{
		"select id from api_keys where revision > 1999 and (deleted_at is null or 1999 >= 0)":                                                           "api_keys_revision",
		"select id from profiles where revision > 1999 and (deleted_at is null or 1999 >= 0)":                                                           "profiles_revision",
		"select g.model_id from profile_models g join profiles f on f.id = g.profile_id where f.revision > 1999 and f.deleted_at is null order by g.id": "profiles_revision",
	} {
		plan := strings.Join(column[string](t, conn, "explain "+query), "\n")
		if !strings.Contains(plan, index) || strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s is not answered by %s alone:\n%s", query, index, plan)
		}
	}
}
