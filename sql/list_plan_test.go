package store_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// large fills the tables to the size of a large installation.
const large = `
insert into teams (name, revision) select 'team-' || n, 1 from generate_series(1, 500) n;
insert into projects (name, team_id, revision) select 'project-' || n, 1 + n % 500, 1 from generate_series(1, 10000) n;
insert into members (email, team_id, role, revision) select 'm' || n || '@example.org', 1 + n % 500, 'member', 1 from generate_series(1, 10000) n;
insert into profiles (project_id, name, revision) select n, 'default', 1 from generate_series(1, 10000) n;
insert into api_keys (project_id, member_id, role, hash, revision) select 1 + n % 10000, case when n % 2 = 0 then 1 + n % 10000 end, 'service', sha256(int8send(n)), n from generate_series(1, 100000) n;
insert into providers (name, base_url, dialect, revision) select 'provider-' || n, 'https://p' || n || '.example/v1', 'openai', 1 from generate_series(1, 1000) n;
insert into credentials (provider_id, key_id, data_key, secret, hash, revision) select n, 'k', '', '', sha256(int8send(n)), 1 from generate_series(1, 1000) n;
insert into models (name, revision) select 'model-' || n, 1 from generate_series(1, 2000) n;
insert into deployments (model_id, provider_id, name, revision) select 1 + n % 2000, 1 + n % 1000, n::text, 1 from generate_series(1, 5000) n;
insert into profile_models (profile_id, model_id) select n, 1 + (n * 7 + m) % 2000 from generate_series(1, 10000) n, generate_series(1, 5) m;
insert into audit_events (revision, method, kind, resource_id, team_id) select n, 'CreateProject', 'project', n, 1 + n % 500 from generate_series(1, 100000) n;
insert into calls (start_at, call_id, gateway, revision, api, stream, model, project_id, team_id, api_key_id, end_reason, duration_us, request_bytes, answer_bytes, decision)
    select timestamptz '2026-01-01' + n * interval '1 second', gen_random_uuid(), 'g', 1, 'chat', false, 'm', 1 + n % 10000, 1 + n % 500, 1 + n % 100000, 'ok', 1, 1, 1, '{}' from generate_series(1, 200000) n;
analyze;`

// What people look at most must not read a large table as a whole, whatever its size.
func TestListsOfALargeInstallationUseIndexes(t *testing.T) {
	t.Parallel()
	_, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, large)
	for _, c := range []struct {
		kind  *store.Kind
		in    store.Scope
		query store.Query
		whole string // tables that may be read as a whole, since they are small
	}{
		{store.APIKeys, store.Scope{}, store.Query{}, ""},
		{store.APIKeys, store.Scope{}, store.Query{Filter: "project_id = 77"}, "members"},
		{store.APIKeys, store.Scope{Project: 77}, store.Query{}, "members"},
		{store.APIKeys, store.Scope{Member: 77}, store.Query{}, ""},
		{store.APIKeys, store.Scope{Team: 7}, store.Query{}, "members"},
		{store.Projects, store.Scope{}, store.Query{}, "teams"},
		{store.Projects, store.Scope{Team: 7}, store.Query{}, "teams"},
		{store.Projects, store.Scope{}, store.Query{Filter: `name = "project-77"`}, "teams"},
		{store.Members, store.Scope{Team: 7}, store.Query{}, "teams"},
		{store.AccessProfiles, store.Scope{}, store.Query{}, "profile_providers"},
		{store.AccessProfiles, store.Scope{}, store.Query{Filter: "project_id = 77"}, "profile_providers"},
		{store.Deployments, store.Scope{}, store.Query{}, "models providers credentials"},
		{store.Deployments, store.Scope{}, store.Query{Filter: "provider_id = 77"}, "models providers credentials"},
		{store.Models, store.Scope{}, store.Query{}, ""},
		{store.AuditEvents, store.Scope{}, store.Query{}, ""},
		{store.AuditEvents, store.Scope{Team: 7}, store.Query{}, ""},
		{store.AuditEvents, store.Scope{}, store.Query{Filter: `kind = "project" AND resource_id = 77`}, ""},
		{store.Calls, store.Scope{}, store.Query{}, ""},
		{store.Calls, store.Scope{Project: 77}, store.Query{}, ""},
		{store.Calls, store.Scope{}, store.Query{Filter: `project_id = 77 AND start > "2026-01-02T00:00:00Z"`}, ""},
	} {
		c.query.Size = 50
		for _, table := range readWhole(t, conn, c.kind, c.in, c.query) {
			if !strings.Contains(" "+c.whole+" ", " "+table+" ") {
				t.Errorf("the list of %ss within %+v with the filter %q reads all of %s", c.kind.Name, c.in, c.query.Filter, table)
			}
		}
	}
}

// readWhole returns the tables of which the plan of a list reads every row.
func readWhole(t *testing.T, conn *pgx.Conn, k *store.Kind, in store.Scope, q store.Query) (tables []string) {
	t.Helper()
	statement, args, err := k.ListSQL(in, q)
	if err != nil {
		t.Fatal(err)
	}
	var plan []byte
	if err := conn.QueryRow(t.Context(), "explain (format json) "+statement, args...).Scan(&plan); err != nil {
		t.Fatalf("%v: %s", err, statement)
	}
	var nodes any
	if err := json.Unmarshal(plan, &nodes); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(n any) {
		switch n := n.(type) {
		case []any:
			for _, x := range n {
				walk(x)
			}
		case map[string]any:
			if name, _ := n["Relation Name"].(string); n["Node Type"] == "Seq Scan" && !strings.HasPrefix(name, "calls_p") {
				tables = append(tables, name)
			}
			for _, x := range n {
				walk(x)
			}
		}
	}
	walk(nodes)
	return tables
}
