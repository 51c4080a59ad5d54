package store_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// budgetsOfEveryKind stores budgets, and returns what calls reserve of them.
func budgetsOfEveryKind(t *testing.T, conn *pgx.Conn) (out []logos.Reservation) {
	t.Helper()
	start, end := logos.WindowDay.Bounds(ledgerDay, nil)
	for _, x := range []struct {
		unit             logos.BudgetUnit
		currency, window string
	}{{logos.UnitMoney, "EUR", "day"}, {logos.UnitMoney, "USD", "total"}, {logos.UnitTokens, "", "day"}, {logos.UnitRequests, "", "total"}, {logos.UnitParallel, "", "total"}} {
		r := logos.Reservation{Unit: x.unit, Currency: x.currency, Amount: 500, Hard: true}
		if x.window == "day" {
			r.Start, r.End = start.Unix(), end.Unix()
		}
		r.Budget = logos.BudgetID(one[int64](t, conn, `insert into budgets (name, unit, currency, amount, "window", hard, revision, created_at)
			values ('budget ' || gen_random_uuid(), $1, $2, 1000, $3, true, 1, $4) returning id`, string(x.unit), x.currency, x.window, ledgerDay))
		out = append(out, r)
	}
	return out
}

// counted records a call of any kind that holds something of each budget, at some of its targets; of none, it is a try
// of a provider.
func (k *bookkeeper) counted(t *testing.T, s *store.Store, n int, b *billing.Book, held []logos.Reservation) *logos.Call {
	t.Helper()
	c := k.call(n)
	c.Decision.Start, c.Decision.Revision = ledgerDay.Add(time.Duration(n)*time.Minute).UnixMicro(), 1
	if held != nil {
		c.Decision.Profile = 1
	}
	c.Decision.Targets = []logos.DecisionTarget{{Deployment: 1, Provider: 1, Cluster: "one"}, {Deployment: 2, Provider: 2, Cluster: "two"}}
	for i := range c.Attempts {
		a := &c.Attempts[i]
		a.Target = c.Decision.Targets[k.r.IntN(2)]
		for j := range a.Meters { // what no call uses would fill the counters to what they can hold
			a.Meters[j].Quantity %= 1 << 60
		}
	}
	for _, r := range held {
		if r.Key = []string{"", "project:1"}[n%2]; r.Unit == logos.UnitTokens {
			r.Key = ""
		}
		r.Targets = uint8(1 + k.r.IntN(3))
		c.Decision.Reservations = append(c.Decision.Reservations, r)
	}
	if n%5 == 0 {
		c.Decision.Refusal, c.End, c.Attempts = "budget_exceeded", logos.EndRefused, nil
	}
	b.RateCall(c)
	c.Spent = budget.Spent(c)
	if _, err := s.SettleCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestVerifyComparesCountersWithRecords: what was settled, of calls of any kind, is what the records say; where it is
// not, the counter is named.
func TestVerifyComparesCountersWithRecords(t *testing.T) {
	t.Parallel()
	for name, planted := range map[string]struct{ check, statement string }{
		"a counter that has settled more":       {"budget_counter", "update budget_shares set settled = settled + 1 where budget_id = 1 and each_key = ''"},
		"a counter that has settled less":       {"budget_counter", "update budget_shares set settled = settled - 1 where budget_id = 4 and each_key = 'project:1'"},
		"a counter that is gone":                {"budget_counter", "delete from budget_shares where budget_id = 3"},
		"a call that is settled and not stored": {"budget_counter", "delete from calls where call_id = (select call_id from calls where end_reason <> 'refused' limit 1)"},
		"tokens that nobody settled":            {"budget_counter", "update meters set quantity = quantity + 5 where (call_id, meter) = (select call_id, meter from meters where meter = 'input' and call_id in (select call_id from calls where decision @? '$.bu[*] ? (@.u == \"tokens\" && @.t == 3)') limit 1)"},
		"a call that no budget counted":         {"budget_missed", "update calls set decision = decision - 'bu' where call_id = (select call_id from calls where end_reason <> 'refused' limit 1)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, url := pgtest.Store(t)
			conn := pgtest.Conn(t, url)
			k := &bookkeeper{r: rand.New(rand.NewPCG(4, 6)), lines: make(map[lineKey]*ownLine)}
			held, book := budgetsOfEveryKind(t, conn), k.book(1)
			for n := range 60 {
				k.counted(t, s, n, book, held)
			}
			verified(t, s)
			exec(t, conn, "set session_replication_role = replica") // no trigger defends it
			exec(t, conn, planted.statement)
			found := findings(t, s, ledgerDay, ledgerDay.AddDate(0, 0, 1))
			if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, planted.check+": ") }) {
				t.Errorf("it finds %q, want one of %s", found, planted.check)
			}
		})
	}
}

// findings returns what verifying a time finds.
func findings(t *testing.T, s *store.Store, from, to time.Time) (found []string) {
	t.Helper()
	if _, err := s.VerifyLedger(t.Context(), from, to, func(f store.Finding) { found = append(found, f.Check+": "+f.What) }); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestVerifyLeavesOutWhatCannotBeKnown: windows that reach back before the records, end users who were erased, budgets
// that came later, and what labels select.
func TestVerifyLeavesOutWhatCannotBeKnown(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	k := &bookkeeper{r: rand.New(rand.NewPCG(4, 7)), lines: make(map[lineKey]*ownLine)}
	held := budgetsOfEveryKind(t, conn)
	b := billing.NewBook([]*logos.Price{{ID: 1, Version: 1, Provider: 1, Meter: logos.MeterInput, Amount: decimal.New(3, 0), Unit: 1000, Currency: "USD"}}, nil)
	for n := range 20 {
		k.counted(t, s, n, b, held)
	}
	k.counted(t, s, 21, b, nil)
	verified(t, s)
	exec(t, conn, `insert into budgets (name, unit, amount, "window", hard, revision) values ('later', 'requests', 1, 'total', true, 2)`)
	exec(t, conn, `insert into budgets (name, unit, amount, "window", hard, revision, call_labels) values ('labelled', 'requests', 1, 'total', true, 0, '{"tier": "gold"}')`)
	exec(t, conn, "update budget_shares set settled = settled + 1")
	if found := findings(t, s, ledgerDay.AddDate(0, 0, 1), ledgerDay.AddDate(0, 0, 2)); len(found) == 0 || slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, "budget 1") || strings.Contains(f, "budget 3") }) {
		t.Errorf("of the day after, when windows of days are over, it finds %q", found)
	}
	exec(t, conn, "update ledger_state set records_from = $1", ledgerDay.Add(time.Hour))
	if found := findings(t, s, ledgerDay, ledgerDay.AddDate(0, 0, 2)); slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, "budget_") }) {
		t.Errorf("of windows that began before the records it finds %q", found)
	}
}
