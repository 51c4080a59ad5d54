package store_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// nameOf tells events apart.
func nameOf(e *store.UsageEvent) string {
	if e.Adjustment != nil {
		return fmt.Sprintf("adjustment %d", e.Adjustment.ID)
	}
	return fmt.Sprintf("attempt %d of %s", e.Attempt.Number, e.Call.ID)
}

// exported reads all that there is from a token on, in pages of a size.
func exported(t *testing.T, s *store.Store, token string, size int) (names []string, next string) {
	t.Helper()
	for {
		page, err := s.ExportUsage(t.Context(), store.Scope{}, store.UsageQuery{Size: size, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Events {
			names = append(names, nameOf(&page.Events[i]))
		}
		if token = page.Next; page.End {
			return names, token
		}
	}
}

// TestExportsEveryEventOnce follows the export while four gateways record and somebody corrects, at once.
func TestExportsEveryEventOnce(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	var writers errgroup.Group
	for g := range 4 {
		writers.Go(func() error {
			for b := range 30 {
				var batch logos.LogBatch
				for n := range 1 + (g+b)%5 {
					batch.Calls = append(batch.Calls, fullCall(t, callID(g*10000+b*100+n)))
				}
				if err := s.RecordCalls(t.Context(), fmt.Sprintf("gateway-%d", g), batch); err != nil {
					return err
				}
				if b%10 == 9 {
					if _, err := s.Change(t.Context(), store.Actor{}, func(ctx context.Context, tx *store.Tx) error {
						_, err := tx.Adjust(ctx, batch.Calls[0].ID, store.Adjustment{Kind: store.Correction, Amount: decimal.New(1, 0), Currency: "EUR"})
						return err
					}); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	done := make(chan error, 1)
	go func() { done <- writers.Wait() }()
	var names []string
	token := ""
	for ended := false; !ended; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			ended = true
		default:
		}
		var more []string
		more, token = exported(t, s, token, 7)
		names = append(names, more...)
	}
	var want []string
	conn := pgtest.Conn(t, url)
	want = append(want, column[string](t, conn, "select 'attempt ' || attempt || ' of ' || call_id from attempts union all select 'adjustment ' || id from adjustments")...)
	slices.Sort(want)
	slices.Sort(names)
	if !slices.Equal(want, names) {
		t.Errorf("%d events were exported, of %d", len(names), len(want))
	}
	if more, _ := exported(t, s, token, 7); len(more) != 0 {
		t.Errorf("after the end there are %v", more)
	}
}

// A transaction that takes its number early and ends late is neither passed over nor waited for.
func TestExportWaitsForWhoRecordsStill(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	slow := pgtest.Conn(t, url)
	tx, err := slow.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `insert into calls (start_at, call_id, gateway, revision, api, stream, model, project_id, api_key_id, end_reason, duration_us, request_bytes, answer_bytes, decision)
		values ('2026-01-02Z', $1, 'g', 7, 'chat', true, 'a-model', 1, 1, 'ok', 5, 6, 7, '{"s": 1}')`, string(callID(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `insert into attempts (start_at, call_id, attempt, provider_id, cluster, started_at, duration_us, end_reason) values ('2026-01-02Z', $1, 1, 1, 'd1', '2026-01-02Z', 5, 'ok')`, string(callID(1))); err != nil {
		t.Fatal(err)
	}
	record(t, s, callID(2))
	none, token := exported(t, s, "", 10)
	if len(none) != 0 {
		t.Errorf("behind one that is not committed: %v", none)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, token := exported(t, s, token, 10)
	if want := []string{"attempt 1 of " + string(callID(1)), "attempt 1 of " + string(callID(2)), "attempt 2 of " + string(callID(2))}; !slices.Equal(want, names) {
		t.Errorf("then there are %v, want %v", names, want)
	}
	exec(t, slow, "begin")
	older(t, slow, 4, ledgerDay)
	exec(t, slow, "rollback")
	record(t, s, callID(3))
	if names, _ = exported(t, s, token, 10); len(names) != 2 {
		t.Errorf("after one that was rolled back: %v", names)
	}
}

// The token of any event leads to those after it.
func TestExportResumesAtAnyEvent(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	record(t, s, callID(1), callID(2), callID(3))
	record(t, s, callID(4))
	all, err := s.ExportUsage(t.Context(), store.Scope{}, store.UsageQuery{Size: 100})
	if err != nil || len(all.Events) != 8 || !all.End {
		t.Fatalf("%d events, end %t, %v", len(all.Events), all.End, err)
	}
	for i := range all.Events {
		rest, _ := exported(t, s, all.Events[i].Token, 3)
		var want []string
		for j := i + 1; j < len(all.Events); j++ {
			want = append(want, nameOf(&all.Events[j]))
		}
		if !slices.Equal(want, rest) {
			t.Errorf("after %s there are %v, want %v", nameOf(&all.Events[i]), rest, want)
		}
	}
	for _, token := range []string{"x", "AQ", "!!", "Af__________________AAAA"} {
		if _, err := s.ExportUsage(t.Context(), store.Scope{}, store.UsageQuery{Size: 1, Token: token}); logos.KindOf(err) != logos.Invalid {
			t.Errorf("the token %q gives %v", token, err)
		}
	}
}

func TestExportHoldsWhatItsQueryAndScopeAreOf(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	record(t, s, callID(1))
	start := fullCall(t, callID(1)).Decision.StartTime()
	for name, x := range map[string]struct {
		in   store.Scope
		q    store.UsageQuery
		want int
	}{
		"all": {want: 2}, "its team": {in: store.Scope{Team: 10}, want: 2}, "another": {in: store.Scope{Team: 11}}, "its project": {in: store.Scope{Project: 11}, want: 2},
		"nobody": {in: store.Scope{Nothing: true}}, "from its start": {q: store.UsageQuery{From: start, To: start.Add(time.Second)}, want: 2}, "before": {q: store.UsageQuery{To: start}},
	} {
		x.q.Size = 10
		page, err := s.ExportUsage(t.Context(), x.in, x.q)
		if err != nil || len(page.Events) != x.want {
			t.Errorf("%s: %d events, %v; want %d", name, len(page.Events), err, x.want)
		}
	}
}

// older records calls as a program does that keeps no totals.
func older(t *testing.T, conn *pgx.Conn, n int, start time.Time) {
	t.Helper()
	exec(t, conn, `insert into calls (start_at, call_id, gateway, revision, api, stream, model, project_id, api_key_id, end_reason, duration_us, request_bytes, answer_bytes, decision)
		values ($1, $2, 'g', 7, 'chat', true, 'a-model', 1, 1, 'ok', 5, 6, 7, '{"s": 1}')`, start, string(callID(n)))
	exec(t, conn, `insert into attempts (start_at, call_id, attempt, provider_id, cluster, started_at, duration_us, end_reason) values ($1, $2, 1, 1, 'd1', $1, 5, 'ok')`, start, string(callID(n)))
	exec(t, conn, `insert into meters (start_at, call_id, attempt, meter, quantity, estimated) values ($1, $2, 1, 'input', 7, false)`, start, string(callID(n)))
}

// What was recorded before totals were kept, by a transaction that ended just after, and by an older program since is
// all counted, once.
func TestCountsWhatOlderProgramsRecorded(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	s, conn := open(t, url), pgtest.Conn(t, url)
	if err := s.MigrateTo(t.Context(), 4, false); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		older(t, conn, n, ledgerDay.Add(time.Duration(n)*time.Hour))
	}
	late := pgtest.Conn(t, url)
	exec(t, late, "begin")
	one[time.Time](t, late, "select now()")
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	older(t, late, 5, ledgerDay)
	exec(t, late, "commit")
	older(t, conn, 6, ledgerDay)
	s = pgtest.Open(t, url, pgtest.Key(t, store.NewMasterKeyText()))
	c, err := s.VerifyLedger(t.Context(), ledgerDay, ledgerDay.AddDate(0, 0, 1), func(f store.Finding) { t.Errorf("%s: %s", f.Check, f.What) })
	if err != nil || !c.TotalsNotChecked {
		t.Errorf("before they are counted: %+v, %v", c, err)
	}
	record(t, s, callID(7)) // of another day
	total := 0
	for {
		n, err := s.CountOld(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n == 0 {
			break
		}
	}
	if total != 7 {
		t.Errorf("%d calls were counted, want 7", total)
	}
	verified(t, s)
	rows, err := s.Summarize(t.Context(), store.Scope{}, store.SummaryQuery{From: ledgerDay, To: ledgerDay.AddDate(0, 0, 1)})
	if err != nil || len(rows) != 1 || rows[0].Calls != 7 || rows[0].Meters[0].Quantity.String() != "49" || rows[0].Unknown != 7 {
		t.Errorf("the summary is %+v, %v", rows, err)
	}
	names, _ := exported(t, s, "", 3)
	if slices.Sort(names); len(slices.Compact(names)) != 9 || len(names) != 9 {
		t.Errorf("exported: %v", names)
	}
}

func TestTotalsOutliveCalls(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	if err := s.EnsurePartitions(t.Context(), ledgerDay, 1); err != nil {
		t.Fatal(err)
	}
	recordAt(t, s, 1, ledgerDay)
	recordAt(t, s, 2, ledgerDay.AddDate(0, 0, -1))
	conn := pgtest.Conn(t, url)
	exec(t, conn, "insert into adjustments (start_at, call_id, kind, amount, currency, project_id, api_key_id) select start_at, call_id, 'refund', -1, 'USD', 1, 1 from calls")
	exec(t, conn, "update settings set call_retention_days = 1")
	if _, err := s.Retain(t.Context(), time.Now().AddDate(0, 0, 3)); err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, conn, "select (select count(*) from calls)::int + (select count(*) from adjustments)::int + (select count(*) from recordings)::int"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	rows, err := s.Summarize(t.Context(), store.Scope{}, store.SummaryQuery{From: ledgerDay.AddDate(0, 0, -2), To: ledgerDay.AddDate(0, 0, 2)})
	if err != nil || len(rows) != 1 || rows[0].Calls != 2 {
		t.Errorf("the summary is %+v, %v", rows, err)
	}
	verified(t, s)
}
