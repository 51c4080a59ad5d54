package store_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// many makes rows whose values are often the same, often missing, and in another order than their ids.
const many = `
insert into teams (name, revision) select 'team-' || n, 1 from generate_series(1, 3) n;
insert into projects (name, team_id, revision, created_at) select 'project-' || md5(n::text), case when n % 4 > 0 then n % 4 end, 1, now() - n % 10 * interval '1 second' from generate_series(1, 1100) n;
insert into models (name, endpoint, quality, accuracy, context_window, revision, deleted_at)
    select 'Größe ' || md5(n::text) || '"\<&', '', case when n % 3 > 0 then (n % 7) / 3.0 end, case when n % 5 = 0 then 'infinity' when n % 5 = 1 then 1e-300 end::double precision, case when n % 2 = 0 then n % 11 + 1 end, 1, case when n % 10 = 0 then now() end
    from generate_series(1, 1100) n;
insert into api_keys (project_id, role, hash, name, revision, expires_at, revoked_at, last_used_at)
    select 1 + n % 1100, (array['service', 'member', 'viewer'])[1 + n % 3], sha256(int8send(n)), 'k', 1, case when n % 3 = 0 then now() + n % 5 * interval '1 hour 1 microsecond' end, case when n % 7 = 0 then now() end, case when n % 2 = 0 then timestamptz 'epoch' + n % 9 * interval '1 microsecond' end
    from generate_series(1, 210) n;
insert into audit_events (revision, method, kind, resource_id) select n, 'CreateProject', 'project', n from generate_series(1, 210) n;
insert into calls (start_at, call_id, gateway, revision, api, stream, model, project_id, api_key_id, end_reason, duration_us, request_bytes, answer_bytes, decision)
    select timestamptz '2026-01-01' + n % 50 * interval '1 microsecond', gen_random_uuid(), 'g', 1, 'chat', false, 'm', 1 + n % 1100, 1, 'ok', 1, 1, 1, '{}' from generate_series(1, 210) n;`

// pages reads a whole list, page by page, and calls between after each.
func pages(t *testing.T, s *store.Store, k *store.Kind, q store.Query, between func(page int)) (documents []string) {
	t.Helper()
	for n := 1; ; n++ {
		page, err := s.List(t.Context(), k, store.Scope{}, q)
		if err != nil {
			t.Fatalf("page %d of %s by %q: %v", n, k.Name, q.OrderBy, err)
		}
		for _, doc := range page.Documents {
			documents = append(documents, string(doc))
		}
		if len(page.Documents) > q.Size || n > 200 {
			t.Fatalf("page %d of %s by %q has %d rows", n, k.Name, q.OrderBy, len(page.Documents))
		}
		if page.Next == "" {
			return documents
		}
		if len(page.Next) > 4096 {
			t.Errorf("the token of page %d of %s has %d bytes", n, k.Name, len(page.Next))
		}
		between(n)
		q.Token = page.Next
	}
}

func idOf(t *testing.T, doc string) string {
	t.Helper()
	var x struct {
		ID json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal([]byte(doc), &x); err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(x.ID), `"`)
}

// orders returns the fields that a list can be ordered by, as its error lists them.
func orders(t *testing.T, s *store.Store, k *store.Kind) []string {
	t.Helper()
	_, err := s.List(t.Context(), k, store.Scope{}, store.Query{OrderBy: "nothing", Size: 1})
	_, fields, ok := strings.Cut(fmt.Sprint(err), "fields: ")
	if !ok || logos.KindOf(err) != logos.Invalid {
		t.Fatalf("an unknown order of %s gives %v", k.Name, err)
	}
	return strings.Split(fields, ", ")
}

func TestPagesHoldEachRowOnceInEveryOrder(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, many)
	for _, k := range []*store.Kind{store.Projects, store.Models, store.APIKeys, store.AuditEvents, store.Calls} {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			whole := pages(t, s, k, store.Query{Size: 10_000, Deleted: true}, nil)
			if len(whole) < 210 || k == store.Models && len(whole) < 1100 {
				t.Fatalf("there are %d rows", len(whole))
			}
			var ids []string
			for _, doc := range whole {
				ids = append(ids, idOf(t, doc))
			}
			slices.Sort(ids)
			for _, field := range append(orders(t, s, k), "") {
				for _, direction := range []string{"", " desc"} {
					if field == "" && direction != "" {
						continue
					}
					q := store.Query{OrderBy: field + direction, Size: len(whole)/4 + 1, Deleted: true}
					got := pages(t, s, k, q, func(int) {})
					if !slices.Equal(atOnce(t, s, k, q), got) {
						t.Errorf("by %q the pages differ from the list as a whole", q.OrderBy)
					}
					var seen []string
					for _, doc := range got {
						seen = append(seen, idOf(t, doc))
					}
					slices.Sort(seen)
					if diff := cmp.Diff(ids, seen); diff != "" {
						t.Errorf("by %q the pages hold (-want +got):\n%s", q.OrderBy, diff)
					}
				}
			}
		})
	}
}

func atOnce(t *testing.T, s *store.Store, k *store.Kind, q store.Query) []string {
	t.Helper()
	q.Size = 10_000
	return pages(t, s, k, q, nil)
}

// Rows that come and go between pages move none of the others.
func TestPagesStayRightWhileRowsComeAndGo(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, many)
	for _, order := range []string{"", "name", "name desc", "quality desc, name", "accuracy, context_window desc, id desc", "create_time desc"} {
		before := one[int](t, conn, "select count(*)::int from models where deleted_at is null and id % 7 <> 3 and name like 'Größe%'")
		got := make(map[string]int)
		for _, doc := range pages(t, s, store.Models, store.Query{OrderBy: order, Size: 120}, func(page int) {
			exec(t, conn, "insert into models (name, quality, revision) select md5(random()::text), random(), 1 from generate_series(1, 20) n")
			exec(t, conn, fmt.Sprintf("update models set deleted_at = now() where id %% 7 = 3 and id %% 20 = %d and name like 'Größe%%'", page%20))
		}) {
			got[idOf(t, doc)]++
		}
		stable := column[string](t, conn, "select id::text from models where deleted_at is null and id % 7 <> 3 and name like 'Größe%'")
		if len(stable) != before {
			t.Fatalf("%d rows were stable, and %d are", before, len(stable))
		}
		for _, id := range stable {
			if got[id] != 1 {
				t.Errorf("by %q the row %s, which was there all the time, is there %d times", order, id, got[id])
			}
		}
		for id, n := range got {
			if n != 1 {
				t.Errorf("by %q the row %s is there %d times", order, id, n)
			}
		}
		exec(t, conn, "update models set deleted_at = null where name like 'Größe%'")
		exec(t, conn, "delete from models where name not like 'Größe%'")
	}
}

func TestRefusesPagesOfOtherLists(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	exec(t, pgtest.Conn(t, url), many)
	good := store.Query{Filter: `name != "x"`, OrderBy: "team_id desc", Size: 10}
	page, err := s.List(t.Context(), store.Projects, store.Scope{}, good)
	if err != nil {
		t.Fatal(err)
	}
	good.Token = page.Next
	if page, err = s.List(t.Context(), store.Projects, store.Scope{}, good); err != nil || len(page.Documents) != 10 {
		t.Fatalf("the second page holds %d rows, %v", len(page.Documents), err)
	}
	for what, c := range map[string]struct {
		kind   *store.Kind
		change func(*store.Query)
	}{
		"another filter":       {store.Projects, func(q *store.Query) { q.Filter = `name != "y"` }},
		"another order":        {store.Projects, func(q *store.Query) { q.OrderBy = "team_id" }},
		"deleted ones":         {store.Projects, func(q *store.Query) { q.Deleted = true }},
		"another kind":         {store.Teams, func(q *store.Query) { q.OrderBy = "" }},
		"half a token":         {store.Projects, func(q *store.Query) { q.Token = q.Token[:len(q.Token)/2] }},
		"no token":             {store.Projects, func(q *store.Query) { q.Token = "x" }},
		"a long token":         {store.Projects, func(q *store.Query) { q.Token = strings.Repeat("A", 4096) }},
		"values that are none": {store.Projects, func(q *store.Query) { q.Token = forged(t, q.Token, "x", "y") }},
		"too large a value":    {store.Projects, func(q *store.Query) { q.Token = forged(t, q.Token, strings.Repeat("9", 30), "1") }},
		"a NUL":                {store.Projects, func(q *store.Query) { q.Token = forged(t, q.Token, "1\x00", "1") }},
		"SQL":                  {store.Projects, func(q *store.Query) { q.Token = forged(t, q.Token, "1; drop table teams", "1") }},
		"too few values":       {store.Projects, func(q *store.Query) { q.Token = forged(t, q.Token, "1") }},
	} {
		q := good
		c.change(&q)
		if _, err := s.List(t.Context(), c.kind, store.Scope{}, q); logos.KindOf(err) != logos.Invalid || !strings.Contains(err.Error(), "next_page_token") {
			t.Errorf("a token with %s gives %v", what, err)
		}
	}
}

// forged is a token with other values.
func forged(t *testing.T, token string, values ...string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	var cursor map[string]any
	if err := json.Unmarshal(text, &cursor); err != nil {
		t.Fatal(err)
	}
	cursor["v"] = values
	if text, err = json.Marshal(cursor); err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}
