package store_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// totals returns what reports add up.
func totals(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	return column[string](t, conn, `
		select 'calls ' || project_id || ' ' || model || ' ' || end_reason || ' ' || count(*) || ' ' || sum(duration_us + request_bytes + answer_bytes) from calls group by project_id, model, end_reason
		union all select 'attempts ' || provider_id || ' ' || count(*) || ' ' || sum(duration_us) from attempts group by provider_id
		union all select 'meters ' || meter || ' ' || estimated || ' ' || sum(quantity) from meters group by meter, estimated
		union all select 'decisions ' || count(*) || ' ' || sum((decision->>'b')::bigint) || ' ' || sum(jsonb_array_length(decision->'tg')) from calls
		order by 1`)
}

func TestErasesAnEndUserWithoutChangingTotals(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	c, conn := fill(t, s), pgtest.Conn(t, url)
	config, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hasher := config.Hasher
	erased, other := hasher.EndUser(c.project, "ada@example.org"), hasher.EndUser(c.project, "bob@example.org")
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	if err := s.EnsurePartitions(t.Context(), start, 1); err != nil {
		t.Fatal(err)
	}
	var batch logos.LogBatch
	const mine = 2100 // more than two batches, in two partitions, some at the same time
	for n := range mine + 10 {
		call := fullCall(t, callID(n))
		call.Decision.Project, call.Decision.EndUser, call.Decision.Session = c.project, erased, "session of ada"
		call.Decision.Start = start.Add(time.Duration(n/3) * time.Minute).UnixMicro()
		if n >= mine {
			call.Decision.EndUser, call.Decision.Session = other, "session of bob"
		}
		call.Decision.Reservations = []logos.Reservation{{Budget: 1, Key: "project:1", Unit: logos.UnitRequests, Targets: 1}, {Budget: 2, Key: "end_user:" + call.Decision.EndUser, Unit: logos.UnitTokens, Targets: 1}}
		batch.Calls = append(batch.Calls, call)
	}
	batch.Unknown = []logos.UnknownLine{{Epoch: "e", Offset: 1, Line: []byte(`{"u":"` + erased + `"`)}, {Epoch: "e", Offset: 2, Line: []byte(`{"u":"` + other + `"`)}}
	if err := s.RecordCalls(t.Context(), gateway, batch); err != nil {
		t.Fatal(err)
	}
	before := totals(t, conn)
	n, err := s.EraseEndUser(t.Context(), store.Actor{Method: "EraseEndUser"}, c.project, "ada@example.org")
	if n != mine || err != nil {
		t.Errorf("erased from %d calls, %v; want %d", n, err, mine)
	}
	if diff := cmp.Diff(before, totals(t, conn)); diff != "" {
		t.Errorf("totals differ (-before +after):\n%s", diff)
	}
	for table, text := range dump(t, conn) {
		for _, trace := range []string{erased, "session of ada", "ada@example.org"} {
			if strings.Contains(text, trace) {
				t.Errorf("the table %s still holds %q", table, trace)
			}
		}
	}
	if left := one[int](t, conn, "select count(*)::int from calls where end_user = $1 and session = 'session of bob' and decision->>'u' = $1 and decision->>'se' = session", other); left != 10 {
		t.Errorf("%d calls of another user are as before, want 10", left)
	}
	if n := one[int](t, conn, "select count(*)::int from unknown_lines"); n != 1 {
		t.Errorf("%d lines are kept aside, want the other's", n)
	}
	call, err := s.Call(t.Context(), store.Scope{}, callID(0))
	if err != nil || call.Decision.EndUser != "" || call.Decision.Session != "" || !call.Decision.Targets[0].AsksUsage {
		t.Errorf("the call reads %+v, %v", call, err)
	}
	// The same lines are read again after a crash.
	if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: batch.Calls[:3]}); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, conn, "select count(*)::int from calls where end_user = $1", erased); n != 0 {
		t.Errorf("%d calls have the user back", n)
	}
	want := []string{`1000`, `1000`, `100`}
	if got := column[string](t, conn, "select after->>'erased' from audit_events where method = 'EraseEndUser' and project_id = $1 order by id", int64(c.project)); !cmp.Equal(got, want) {
		t.Errorf("the audit tells of %q calls, want %q", got, want)
	}
	if n, err := s.EraseEndUser(t.Context(), store.Actor{Method: "EraseEndUser"}, c.project, "nobody"); n != 0 || err != nil {
		t.Errorf("of a user without calls %d are erased, %v", n, err)
	}
	if _, err := s.EraseEndUser(t.Context(), store.Actor{Method: "EraseEndUser"}, c.project, ""); logos.KindOf(err) != logos.Invalid {
		t.Errorf("without a user: %v", err)
	}
}

func TestErasesASourceAddressFromTheAudit(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, `insert into audit_events (revision, method, kind, resource_id, source, before, after)
		select 1, 'M', 'k', n, case n % 4 when 0 then '192.0.2.7' when 1 then '::ffff:192.0.2.7' when 2 then '2001:db8::1' else '192.0.2.77' end, '{}', '{}' from generate_series(1, 4400) n`)
	for _, c := range []struct {
		address string
		want    int64
	}{{"192.0.2.7", 2200}, {"2001:0db8:0:0:0:0:0:1", 1100}, {"198.51.100.1", 0}} {
		n, err := s.EraseSourceAddress(t.Context(), store.Actor{Method: "EraseSourceAddress"}, netip.MustParseAddr(c.address))
		if n != c.want || err != nil {
			t.Errorf("%s: erased from %d events, %v; want %d", c.address, n, err, c.want)
		}
	}
	if left := column[string](t, conn, "select source || ' ' || count(*) from audit_events where method = 'M' group by source order by 1"); !cmp.Equal(left, []string{" 3300", "192.0.2.77 1100"}) {
		t.Errorf("the sources are %q", left)
	}
	if sum := one[int](t, conn, "select sum((after->>'erased')::int)::int from audit_events where method = 'EraseSourceAddress'"); sum != 3300 {
		t.Errorf("the audit tells of %d events", sum)
	}
	if _, err := conn.Exec(t.Context(), "update audit_events set source = 'x'"); err == nil {
		t.Error("anyone may change audit events")
	}
	if _, err := s.EraseSourceAddress(t.Context(), store.Actor{Method: "EraseSourceAddress"}, netip.Addr{}); logos.KindOf(err) != logos.Invalid {
		t.Errorf("without an address: %v", err)
	}
}
