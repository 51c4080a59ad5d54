package store_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// schemaOf returns everything that a migration makes but rows.
func schemaOf(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return column[string](t, conn, `
		select 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' not null ' || a.attnotnull
			|| ' identity ' || a.attidentity::text || ' default ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') as what
		from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
		union all select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint where connamespace = 'public'::regnamespace and contype <> 'n'
		union all select indexdef from pg_indexes where schemaname = 'public'
		union all select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
		union all select pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace
		union all select 'sequence ' || relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S'
		order by what`)
}

func TestEachStepDownLeavesTheSchemaBefore(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, conn := open(t, url), pgtest.Conn(t, url)
	last, err := store.SchemaVersion()
	if err != nil {
		t.Fatal(err)
	}
	schemas := make([][]string, last+1)
	for v := range last + 1 {
		if err := s.MigrateTo(t.Context(), v, false); err != nil {
			t.Fatal(err)
		}
		schemas[v] = schemaOf(t, conn)
	}
	for v := last - 1; v >= 0; v-- {
		if err := s.MigrateTo(t.Context(), v, true); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(schemas[v], schemaOf(t, conn)); diff != "" {
			t.Errorf("back at version %d the schema differs (-before +after):\n%s", v, diff)
		}
		if got := one[int](t, conn, "select coalesce(max(version), 0) from schema_migrations"); got != v {
			t.Errorf("version %d is noted, want %d", got, v)
		}
		if err := s.MigrateTo(t.Context(), v+1, false); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(schemas[v+1], schemaOf(t, conn)); diff != "" {
			t.Errorf("again at version %d the schema differs (-before +after):\n%s", v+1, diff)
		}
		if err := s.MigrateTo(t.Context(), v, true); err != nil {
			t.Fatal(err)
		}
	}
}

// version1 is a row in every table that the first release had, as its program wrote them.
const version1 = `
	insert into instance (key_id, hash_key, set_up_at) values ('0123456789abcdef', '\x0102', '2026-01-02 03:04:05Z');
	update config_revision set revision = 7;
	insert into teams (name, labels, revision) values ('a team', '{"a": "b"}', 1);
	insert into projects (team_id, name, revision) values (1, 'a project', 2), (null, 'another', 2);
	insert into profiles (project_id, name, revision) values (1, 'a profile', 3);
	insert into api_keys (project_id, profile_id, role, name, hash, hint, revision, expires_at) values
		(1, 1, 'root', 'a key', '\x01', 'abcd', 3, '2030-01-01Z'), (1, null, 'member', '', '\x02', 'efgh', 3, null);
	insert into providers (name, base_url, dialect, revision) values
		('a provider', 'https://one.example/v1', 'openai', 4), ('a provider', 'https://two.example/v1', 'openai', 4);
	insert into credentials (provider_id, key_id, data_key, secret, hash, revision) values
		(1, '0123456789abcdef', '\x03', '\x04', '\x05', 4), (1, '0123456789abcdef', '\x06', '\x07', '\x08', 4);
	insert into models (name, endpoint, quality, revision) values ('a-model', 'chat/completions', 0.5, 5);
	insert into deployments (model_id, provider_id, credential_id, provider_model, revision) values (1, 1, 1, 'theirs', 5);
	insert into profile_providers (profile_id, provider_id, credential_id) values (1, 1, 1);
	insert into profile_models (profile_id, model_id) values (1, 1);
	insert into calls (start_at, call_id, gateway, revision, api, stream, model, project_id, api_key_id, end_reason, duration_us, request_bytes, answer_bytes, decision)
		values ('2026-01-02Z', '4c3648d3-45cf-4a39-9983-4ec0041b40d3', 'g', 7, 'chat', true, 'a-model', 1, 1, 'ok', 5, 6, 7, '{"s": 1}');
	insert into attempts (start_at, call_id, attempt, provider_id, cluster, started_at, duration_us, end_reason)
		values ('2026-01-02Z', '4c3648d3-45cf-4a39-9983-4ec0041b40d3', 1, 1, 'd1', '2026-01-02Z', 5, 'ok');
	insert into meters (start_at, call_id, attempt, meter, quantity, estimated) values ('2026-01-02Z', '4c3648d3-45cf-4a39-9983-4ec0041b40d3', 1, 'input', 5, false);
	insert into log_positions (gateway, epoch, generation, byte) values ('g', 'e', 1, 2);
	insert into unknown_lines (gateway, epoch, generation, byte, line) values ('g', 'e', 1, 2, 'what?');`

// version2 adds rows and values that version 1 has no place for; its first statement is a change that it has
// one for.
const version2 = `
	update models set context_window = 4096 where id = 1;
	insert into members (team_id, email, role, revision) values (1, 'a@example.org', 'member', 8), (null, 'b@example.org', 'viewer', 8), (1, 'gone@example.org', 'admin', 8);
	update members set deleted_at = now() where email like 'gone%';
	insert into api_keys (project_id, role, member_id, hash, revision) values (1, 'member', 1, '\x11', 8), (1, 'member', 2, '\x12', 8), (1, 'member', 3, '\x13', 8);
	insert into api_keys (project_id, role, hash, revision) values (1, 'service', '\x14', 8), (1, 'viewer', '\x15', 8), (1, 'admin', '\x16', 8);
	insert into api_keys (project_id, role, hash, revision, allowed_apis) values (1, 'service', '\x17', 8, '{chat}');
	insert into api_keys (project_id, role, hash, revision, allowed_models) values (1, 'service', '\x18', 8, '{1}');
	insert into api_keys (project_id, role, hash, revision, allowed_cidrs) values (1, 'service', '\x19', 8, '{10.0.0.0/8}');
	insert into api_keys (project_id, role, hash, revision, hash_kind) values (1, 'service', '\x1a', 8, 'sha256');
	update api_keys set prefix = 'lg-abc', previous_hash = '\x21', previous_expires_at = now() + interval '1 day', claim_hash = '\x22',
		claim_expires_at = now() + interval '1 day', last_used_at = now() where hash = '\x14';
	update teams set member_key_limit = 1;
	insert into deployments (model_id, provider_id, name, revision) values (1, 1, 'second', 8), (1, 2, 'named', 8);
	update settings set call_retention_days = 30, revision = 8;
	insert into audit_events (revision, method, kind, resource_id) values (8, 'CreateMember', 'member', 1);
	insert into idempotent_requests (api_key_id, request_id, method, digest, response) values (1, '4c3648d3-45cf-4a39-9983-4ec0041b40d3', 'CreateMember', '\x01', '\x02');`

// columnsOf returns the columns of every table.
func columnsOf(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, line := range column[string](t, conn, `select c.relname || ' ' || string_agg(a.attname, ', ' order by a.attnum)
		from pg_attribute a join pg_class c on c.oid = a.attrelid
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> 'schema_migrations' and a.attnum > 0 and not a.attisdropped
		group by c.relname`) {
		table, columns, _ := strings.Cut(line, " ")
		out[table] = columns
	}
	return out
}

// rows returns these columns of these tables, as far as rows meet the condition for their table.
func rows(t *testing.T, conn *pgx.Conn, columns, conditions map[string]string) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for table, names := range columns {
		condition := conditions[table]
		if condition == "" {
			condition = "true"
		}
		out[table] = column[string](t, conn, fmt.Sprintf("select (x.*)::text from (select %s from %s where %s) x order by 1", names, table, condition))
	}
	return out
}

func TestTheFirstReleasesDataSurvivesUpDownUp(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, conn := open(t, url), pgtest.Conn(t, url)
	to := func(version int, lose bool) {
		t.Helper()
		if err := s.MigrateTo(t.Context(), version, lose); err != nil {
			t.Fatal(err)
		}
	}
	to(1, false)
	exec(t, conn, version1)
	columns := columnsOf(t, conn)
	originally := rows(t, conn, columns, nil)
	for _, table := range slices.Sorted(maps.Keys(originally)) {
		if len(originally[table]) == 0 {
			t.Errorf("there is no row in %s", table)
		}
	}
	to(2, false)
	migrated := rows(t, conn, columns, nil)
	for table, was := range originally {
		// Names become unique there; nothing else changes.
		if diff := cmp.Diff(was, migrated[table]); diff != "" && table != "api_keys" && table != "providers" && table != "credentials" {
			t.Errorf("the way up changes %s (-before +after):\n%s", table, diff)
		}
	}
	exec(t, conn, version2)
	// Of tables with new rows, those of version 1 are looked at.
	old := map[string]string{"api_keys": "hash < '\\x10'", "deployments": "id = 1"}
	before := rows(t, conn, columns, old)
	for _, table := range slices.Sorted(maps.Keys(columnsOf(t, conn))) {
		if one[int64](t, conn, "select count(*) from "+table) == 0 {
			t.Errorf("there is no row in %s", table)
		}
	}

	err := s.MigrateTo(t.Context(), 1, false)
	if err == nil {
		t.Fatal("data is lost without a word")
	}
	for _, want := range []string{"members (3)", "audit events (1)", "changed settings (1)", "which are deleted (1)", "names of deployments (2)", "which are revoked (7)", `which become "member" (2)`, "--yes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if v := one[int](t, conn, "select max(version) from schema_migrations"); v != 2 {
		t.Fatalf("after the refusal the schema is version %d", v)
	}
	revision := revision(t, conn)
	to(1, true)
	if now := one[int64](t, conn, "select revision from config_revision"); now != revision+1 {
		t.Errorf("the revision is %d, want %d: gateways must load what changed", now, revision+1)
	}
	delete(columns, "config_revision")
	delete(before, "config_revision")
	down := maps.Clone(before)
	down["api_keys"] = slices.Clone(before["api_keys"])
	for i, row := range down["api_keys"] { // as version 1 calls a key that calls models, and does nothing else
		down["api_keys"][i] = strings.Replace(row, ",service,", ",member,", 1)
	}
	if diff := cmp.Diff(down, rows(t, conn, columns, old)); diff != "" {
		t.Errorf("the way down changes rows of version 1 (-before +after):\n%s", diff)
	}
	usable := column[string](t, conn, `select encode(hash, 'hex') || ' ' || role from api_keys where revoked_at is null order by hash`)
	if diff := cmp.Diff([]string{"01 root", "02 member", "11 member", "14 member", "16 member"}, usable); diff != "" {
		t.Errorf("keys that work on version 1 (-want +got):\n%s", diff)
	}
	// Version 1 goes on: what it adds gets names beside those that there are.
	exec(t, conn, `insert into credentials (provider_id, key_id, data_key, secret, hash, revision) values (1, '0123456789abcdef', '\x09', '\x0a', '\x0b', 9)`)
	to(2, false)
	old["credentials"] = "id < 3"
	if diff := cmp.Diff(before, rows(t, conn, columns, old)); diff != "" {
		t.Errorf("the second way up changes rows of version 1 (-before +after):\n%s", diff)
	}
	if names := column[string](t, conn, "select name from credentials order by id"); !slices.Equal(names, []string{"credential-1", "credential-2", "credential-3"}) {
		t.Errorf("the credentials' names are %q", names)
	}
}

func TestSaysWhichProgramKnowsAVersion(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	for _, version := range []int{-1, 9999} {
		if err := s.MigrateTo(t.Context(), version, true); err == nil || !strings.Contains(err.Error(), "use the program that knows both") {
			t.Errorf("to version %d: %v", version, err)
		}
	}
	exec(t, pgtest.Conn(t, url), "insert into schema_migrations (version, name) values (9999, 'of a later release')")
	if err := s.MigrateTo(t.Context(), 1, true); err == nil || !strings.Contains(err.Error(), "9999") {
		t.Errorf("from a later version: %v", err)
	}
}
