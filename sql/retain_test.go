package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// recordAt records a call that began at a time.
func recordAt(t *testing.T, s *store.Store, n int, at time.Time) {
	t.Helper()
	c := fullCall(t, callID(n))
	c.Decision.Start = at.UnixMicro()
	if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
		t.Fatal(err)
	}
}

// calls returns how many calls, attempts and meters there are.
func calls(t *testing.T, conn *pgx.Conn) [3]int {
	t.Helper()
	return [3]int{
		one[int](t, conn, "select count(*)::int from calls"), one[int](t, conn, "select count(*)::int from attempts"), one[int](t, conn, "select count(*)::int from meters"),
	}
}

func TestRetainsCallsForTheDaysThatAreSet(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	now := time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)
	today := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	if err := s.EnsurePartitions(t.Context(), today.AddDate(0, 0, -4), 7); err != nil {
		t.Fatal(err)
	}
	for n, at := range []time.Time{
		today.AddDate(0, -1, 0),                                 // in the default partition
		today.AddDate(0, 0, -4),                                 // in one of its own
		today.AddDate(0, 0, -2).Add(-time.Microsecond),          // the last that is too old
		today.AddDate(0, 0, -2), today, now, now.Add(time.Hour), // to be kept
	} {
		recordAt(t, s, n, at)
	}
	if r, err := s.Retain(t.Context(), now); r != (store.Retained{}) || err != nil {
		t.Errorf("without a setting: %+v, %v", r, err)
	}
	exec(t, conn, "update settings set call_retention_days = 2")
	r, err := s.Retain(t.Context(), now)
	if want := (store.Retained{Days: 2, Calls: 1}); r != want || err != nil {
		t.Errorf("removed %+v, %v; want %+v", r, err, want)
	}
	if got, want := calls(t, conn), [3]int{4, 8, 12}; got != want {
		t.Errorf("there are %v calls, attempts and meters, want %v", got, want)
	}
	var partitions []string
	for _, table := range []string{"calls", "attempts", "meters"} {
		partitions = append(partitions, column[string](t, conn, "select inhrelid::regclass::text from pg_inherits where inhparent = $1::regclass order by 1", table)...)
	}
	var want []string
	for _, table := range []string{"calls", "attempts", "meters"} {
		for _, d := range []string{"20261122", "20261123", "20261124", "20261125", "20261126", "rest"} {
			want = append(want, table+"_"+d)
		}
	}
	if diff := cmp.Diff(want, partitions); diff != "" {
		t.Errorf("partitions differ (-want +got):\n%s", diff)
	}
	if r, err := s.Retain(t.Context(), now); r != (store.Retained{}) || err != nil {
		t.Errorf("again: %+v, %v", r, err)
	}
}

func TestRetainsWhatIsNotACall(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	exec(t, conn, `insert into audit_events (at, revision, method, kind, resource_id) select now() - n * interval '1 day', 1, 'M', 'k', n from generate_series(1, 3000) n`)
	exec(t, conn, `insert into unknown_lines (gateway, epoch, generation, byte, line, read_at) select 'g', 'e', 1, n, 'x', now() - n * interval '1 day' from generate_series(1, 60) n`)
	exec(t, conn, `insert into idempotent_requests (api_key_id, request_id, method, digest, response, at) select n, gen_random_uuid(), 'M', '', '', now() - n * interval '1 hour' from generate_series(1, 48) n`)
	exec(t, conn, `insert into budget_counters (budget_id, window_start, each_key, window_end) select 1, 'epoch', n::text, case when n <= 40 then now() - n * interval '1 day' end from generate_series(1, 50) n`)
	exec(t, conn, `insert into budget_shares (budget_id, window_start, each_key, gateway, window_end) select budget_id, window_start, each_key, 'g', window_end from budget_counters`)
	for _, c := range []struct {
		set  string
		want store.Retained
	}{
		{"audit_retention_days = 0", store.Retained{UnknownLines: 31, Repeats: 25, Counters: 10}}, // what is set from the start, and a day
		{"audit_retention_days = 100, unknown_line_retention_days = 0", store.Retained{AuditEvents: 2901}},
		{"unknown_line_retention_days = 10", store.Retained{UnknownLines: 20}},
	} {
		exec(t, conn, "update settings set "+c.set)
		if r, err := s.Retain(t.Context(), time.Now()); r != c.want || err != nil {
			t.Errorf("with %s: removed %+v, %v; want %+v", c.set, r, err, c.want)
		}
	}
	if left := one[int](t, conn, "select count(*)::int from budget_shares"); left != 40 {
		t.Errorf("there are %d shares, want those of the last month and of windows without an end: 40", left)
	}
	if _, err := conn.Exec(t.Context(), "delete from audit_events"); err == nil {
		t.Error("anyone may delete audit events")
	}
}

// Gateways that retain at the same moment, while calls are recorded, hold up neither each other nor the calls.
func TestSeveralMayRetainAtOnceWhileCallsAreRecorded(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	now := time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)
	const days = 12
	if err := s.EnsurePartitions(t.Context(), now.AddDate(0, 0, -days), days+2); err != nil {
		t.Fatal(err)
	}
	for n := range days + 1 {
		recordAt(t, s, n, now.AddDate(0, 0, -n))
	}
	exec(t, conn, "update settings set call_retention_days = 1")
	var all errgroup.Group
	var dropped [3]int
	for i := range dropped {
		all.Go(func() error {
			for {
				r, err := s.Retain(t.Context(), now)
				dropped[i] += r.Days
				// On a slow machine a call may take so long that a day waits for the next try.
				if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "55P03" {
					return err
				}
			}
		})
	}
	for w := range 2 {
		all.Go(func() error {
			for n := range 50 {
				c := fullCall(t, callID(1000+100*w+n))
				c.Decision.Start = now.UnixMicro() + int64(n)
				if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if sum := dropped[0] + dropped[1] + dropped[2]; sum != days-1 {
		t.Errorf("the three dropped %v days, want %d in all", dropped, days-1)
	}
	if got, want := calls(t, conn), [3]int{102, 204, 306}; got != want {
		t.Errorf("there are %v calls, attempts and meters, want %v", got, want)
	}
}

// A backup or a report reads for hours: what wants a table for itself meanwhile gives up at once, and calls
// are recorded.
func TestALongReaderHoldsUpNoRecord(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	now := time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)
	if err := s.EnsurePartitions(t.Context(), now.AddDate(0, 0, -5), 6); err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "update settings set call_retention_days = 1")
	reader, err := pgtest.Conn(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), "select count(*) from calls, attempts, meters"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if r, err := s.Retain(t.Context(), now); err == nil || r.Days != 0 {
		t.Errorf("a day that is being read was dropped: %+v, %v", r, err)
	}
	if err := s.EnsurePartitions(t.Context(), now.AddDate(0, 0, 1), 1); err == nil {
		t.Error("a partition was made in a table that is being read")
	}
	recordAt(t, s, 1, now)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("a call waits %v to be recorded", took)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Retain(t.Context(), now); err != nil || r.Days != 4 {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
	fmt.Fprintln(t.Output(), "with the reader it took", time.Since(begin))
}
