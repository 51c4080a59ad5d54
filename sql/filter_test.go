package store_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

const filtered = `
insert into teams (name, revision) values ('red', 1), ('blue', 1);
insert into projects (name, team_id, labels, revision, created_at, deleted_at) values
    ('alpha', 1, '{"tier": "gold", "a/b": "x", "n": "5"}', 1, '2026-01-01T00:00:00Z', null),
    ('beta', 2, '{"tier": "silver"}', 1, '2026-02-01T00:00:00Z', null),
    ('gamma', null, '{}', 1, '2026-03-01T00:00:00.5Z', null),
    ('it''s "q" \ %_ ü', null, '{"tier": ""}', 1, '2026-04-01T00:00:00Z', null),
    ('gone', null, '{}', 1, '2026-05-01T00:00:00Z', '2026-06-01T00:00:00Z');
insert into profiles (project_id, name, passthrough, revision) values (1, 'on', true, 1), (1, 'off', false, 1);
insert into models (name, capabilities, context_window, quality, revision) values
    ('none', '{}', null, null, 1), ('low', '{tools}', 1000, 0.25, 1), ('high', '{tools,vision}', 200000, 1, 1);`

func names(t *testing.T, s *store.Store, k *store.Kind, filter string, deleted bool) (out []string, err error) {
	t.Helper()
	page, err := s.List(t.Context(), k, store.Scope{}, store.Query{Filter: filter, Size: 100, Deleted: deleted})
	if err != nil {
		return nil, err
	}
	for _, doc := range page.Documents {
		var x struct{ Name string }
		if err := json.Unmarshal(doc, &x); err != nil {
			t.Fatal(err)
		}
		out = append(out, x.Name)
	}
	return out, nil
}

func TestFiltersSayWhatIsShown(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	exec(t, pgtest.Conn(t, url), filtered)
	const odd = `it's "q" \ %_ ü`
	all := []string{"alpha", "beta", "gamma", odd}
	for _, c := range []struct {
		kind   *store.Kind
		filter string
		want   []string
	}{
		{store.Projects, ``, all},
		{store.Projects, ` `, all},
		{store.Projects, `true`, all},
		{store.Projects, `false`, nil},
		{store.Projects, `name = "alpha"`, []string{"alpha"}},
		{store.Projects, `name="alpha"`, []string{"alpha"}},
		{store.Projects, `"alpha" = name`, []string{"alpha"}},
		{store.Projects, `name = 'alpha'`, []string{"alpha"}},
		{store.Projects, `name = "ALPHA"`, nil},
		{store.Projects, `name != "alpha"`, []string{"beta", "gamma", odd}},
		{store.Projects, `name < "b"`, []string{"alpha"}},
		{store.Projects, `name >= "gamma" AND name <= "gamma"`, []string{"gamma"}},
		{store.Projects, `name > "gamma"`, []string{odd}},
		{store.Projects, `name:"AM"`, []string{"gamma"}}, // part of it, in whatever case
		{store.Projects, `name:eta`, []string{"beta"}},
		{store.Projects, `name:"%"`, []string{odd}},
		{store.Projects, `name:"_"`, []string{odd}},
		{store.Projects, `name = "it's \"q\" \\ %_ ü"`, []string{odd}},
		{store.Projects, `name:"it's"`, []string{odd}},
		{store.Projects, `id = 1`, []string{"alpha"}},
		{store.Projects, `1 = id`, []string{"alpha"}},
		{store.Projects, `id != 1 AND id < 3`, []string{"beta"}},
		{store.Projects, `id >= 2 AND id <= 3`, []string{"beta", "gamma"}},
		{store.Projects, `id > -1 AND id < 2`, []string{"alpha"}},
		{store.Projects, `id = 9223372036854775807`, nil},
		{store.Projects, `team_id = 0`, []string{"gamma", odd}},
		{store.Projects, `team = "red" OR team = "blue"`, []string{"alpha", "beta"}},
		{store.Projects, `team = "red" OR team = "blue" AND id = 2`, []string{"beta"}}, // OR binds more tightly, says AIP-160
		{store.Projects, `team = "red" OR (team = "blue" AND id = 2)`, []string{"alpha", "beta"}},
		{store.Projects, `NOT team = "red"`, []string{"beta", "gamma", odd}},
		{store.Projects, `NOT (team = "red" OR id = 2)`, []string{"gamma", odd}},
		{store.Projects, `-team = "red"`, []string{"beta", "gamma", odd}},
		{store.Projects, `labels:tier`, []string{"alpha", "beta", odd}},
		{store.Projects, `NOT labels:tier`, []string{"gamma"}},
		{store.Projects, `labels:*`, []string{"alpha", "beta", odd}},
		{store.Projects, `labels.tier:*`, []string{"alpha", "beta", odd}},
		{store.Projects, `labels.tier = "gold"`, []string{"alpha"}},
		{store.Projects, `labels.tier != "gold"`, []string{"beta", odd}},
		{store.Projects, `NOT labels.tier = "gold"`, []string{"beta", "gamma", odd}},
		{store.Projects, `labels.tier:"L"`, []string{"alpha", "beta"}},
		{store.Projects, `labels.tier = ""`, []string{odd}},
		{store.Projects, `labels."a/b" = "x"`, []string{"alpha"}},
		{store.Projects, `labels.n = "5"`, []string{"alpha"}},
		{store.Projects, `labels.none = "x"`, nil},
		{store.Projects, `create_time < "2026-02-01T00:00:00Z"`, []string{"alpha"}},
		{store.Projects, `create_time <= "2026-02-01T01:00:00+01:00"`, []string{"alpha", "beta"}},
		{store.Projects, `create_time = "2026-03-01T00:00:00.5Z"`, []string{"gamma"}},
		{store.Projects, `create_time >= timestamp("2026-04-01T00:00:00Z")`, []string{odd}},
		{store.Projects, `create_time != "2026-04-01T00:00:00Z" AND create_time > "2026-02-28T23:59:59.999999Z"`, []string{"gamma"}},
		{store.Projects, `delete_time:*`, nil},
		{store.Projects, `uid:*`, all},
		{store.Projects, `name = "'; drop table projects; --"`, nil},
		{store.Projects, `name = "$1" OR name = "%s" OR name = "\\"`, nil},
		{store.Projects, `labels."'; drop table projects; --" = "x"`, nil},
		{store.AccessProfiles, `passthrough`, []string{"on"}},
		{store.AccessProfiles, `passthrough = true`, []string{"on"}},
		{store.AccessProfiles, `NOT passthrough AND project = "alpha"`, []string{"off"}},
		{store.AccessProfiles, `passthrough != true`, []string{"off"}},
		{store.Models, `capabilities:"tools"`, []string{"low", "high"}},
		{store.Models, `capabilities:tools AND capabilities:vision`, []string{"high"}},
		{store.Models, `capabilities:*`, []string{"low", "high"}},
		{store.Models, `capabilities:"tool"`, nil},
		{store.Models, `quality > 0.5`, []string{"high"}},
		{store.Models, `quality >= 0.25 AND quality < 1`, []string{"low"}},
		{store.Models, `quality = 1`, []string{"high"}},
		{store.Models, `NOT quality = 1`, []string{"none", "low"}},
		{store.Models, `quality != 1`, []string{"low"}},
		{store.Models, `context_window = 0 OR context_window > 1000`, []string{"none", "high"}},
	} {
		got, err := names(t, s, c.kind, c.filter, false)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s with the filter %s: %v (-want +got):\n%s", c.kind.Name, c.filter, err, diff)
		}
	}
	for filter, want := range map[string][]string{"": append(slices.Clone(all), "gone"), "delete_time:*": {"gone"}, `delete_time > "2026-05-31T00:00:00Z"`: {"gone"}} {
		if got, err := names(t, s, store.Projects, filter, true); cmp.Diff(want, got) != "" || err != nil {
			t.Errorf("deleted ones too, the filter %q shows %q, %v; want %q", filter, got, err, want)
		}
	}
}

func TestRefusesFiltersThatMeanNothing(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, filtered)
	for _, filter := range []string{
		`name`, `"alpha"`, `5`, `name = `, `= "alpha"`, `name = alpha`, `name == "alpha"`, `name = "alpha`, `name = "alpha" AND`, `AND name = "x"`, `OR`, `NOT`, `()`, `(`, `)`, `(name = "x"`, `name = "x")`,
		`name = "x" name = "y"`, `name = 5`, `name = true`, `name > 5`, `id = "1"`, `id = 1.5`, `id = true`, `id:1`, `id:"1"`, `id = 9223372036854775808`, `id = 1e3`, `name:5`, `NOT name`, `name AND true`, `-name`,
		`nothing = "x"`, `r.name = "x"`, `name.x = "x"`, `labels = "x"`, `labels.tier`, `labels.tier > 5`, `labels.a.b = "x"`, `labels.a-b = "x"`, `create_time = "yesterday"`, `create_time > 5`, `create_time = "2026-01-01"`,
		`"2026-01-01T00:00:00Z" < create_time`, `create_time > duration("1s")`, `create_time > timestamp(name)`, `create_time = timestamp("x")`, `create_time = "0000-01-01T00:00:00Z"`, `create_time:"x"`, `f(name)`, `lower(name) = "x"`,
		`name = "a` + "\x00" + `b"`, "\x00", `name = "` + "\xff" + `"`, `etag = "1"`, `labels:5`, `; drop table projects`, `name = "x"; drop table projects`, `1`, `name in ("x")`, `name LIKE "x"`, `name = "x" /* */`,
		strings.Repeat(`name = "x" OR `, 50) + `name = "x"`,
	} {
		_, err := names(t, s, store.Projects, filter, false)
		e := logos.KindOf(err)
		if e != logos.Invalid || len(err.Error()) > 600 {
			t.Errorf("the filter %q gives kind %d: %v", filter, e, err)
		}
	}
	if n := one[int](t, conn, "select count(*)::int from projects"); n != 5 {
		t.Errorf("%d projects are left", n)
	}
}

// A filter costs no more than its length allows, whatever it is made of.
func TestFiltersAreCheap(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	exec(t, pgtest.Conn(t, url), filtered)
	for what, filter := range map[string]string{
		"10,000 parentheses":       strings.Repeat("(", 10_000) + "true" + strings.Repeat(")", 10_000),
		"4,000 that stay open":     strings.Repeat("(", 4_000),
		"functions in functions":   strings.Repeat("f(", 2_000) + "1" + strings.Repeat(")", 2_000),
		"functions that stay open": strings.Repeat("f(", 2_000),
		"parts of parts":           "labels" + strings.Repeat(".a", 2_000) + ` = "x"`,
		"dots":                     "labels" + strings.Repeat(".", 4_000),
		"alternatives":             "true" + strings.Repeat(" OR true", 500),
		"NOT NOT":                  strings.Repeat("NOT ", 1_000) + "true",
		"minus":                    strings.Repeat("-", 4_000) + "true",
		"NOT in parentheses":       strings.Repeat("NOT (", 800) + "true" + strings.Repeat(")", 800),
		"a long text":              `name = "` + strings.Repeat("x", 4_000) + `"`,
		"escapes":                  `name = "` + strings.Repeat(`\"`, 2_000) + `"`,
		"commas":                   "f(" + strings.Repeat("1,", 2_000) + "1)",
	} {
		at := time.Now()
		if _, err := names(t, s, store.Projects, filter, false); err != nil && logos.KindOf(err) != logos.Invalid {
			t.Errorf("%s give %v", what, err)
		}
		// Far above what it takes, and far below what the worst of them took.
		if took := time.Since(at); took > 2*time.Second {
			t.Errorf("%s take %s", what, took)
		}
	}
}
