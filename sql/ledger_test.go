package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/shopspring/decimal"
	"golang.org/x/sync/errgroup"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/billing"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

var ledgerDay = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// A bookkeeper keeps books of its own beside the store: plain sums over lines.
type bookkeeper struct {
	r     *rand.Rand
	calls []*logos.Call
	lines map[lineKey]*ownLine
	other map[ownKey]decimal.Decimal // refunds and corrections
}

type lineKey struct {
	call    logos.CallID
	attempt int
	meter   logos.Meter
}

type ownLine struct {
	amounts map[string]decimal.Decimal // by currency
	unknown bool
}

type ownKey struct {
	call     logos.CallID
	currency string
}

// book makes prices of some providers, in some currencies, and leaves some out.
func (k *bookkeeper) book(version int64) *billing.Book {
	var prices []*logos.Price
	for provider := logos.ProviderID(1); provider <= 3; provider++ {
		for i, m := range []logos.Meter{logos.MeterInput, logos.MeterOutput, logos.MeterCachedInput, logos.MeterRequest, logos.MeterImage, logos.MeterWebSearch} {
			if k.r.IntN(4) == 0 {
				continue
			}
			prices = append(prices, &logos.Price{
				ID: logos.PriceID(int(provider)*10 + i), Version: version*100 + int64(provider)*10 + int64(i), Provider: provider, Meter: m,
				Amount: decimal.New(k.r.Int64N(1000), -k.r.Int32N(5)), Unit: []int64{1, 1000, 1_000_000}[k.r.IntN(3)], Currency: []string{"", "USD", "EUR", "USD"}[provider],
			})
		}
	}
	return billing.NewBook(prices, nil)
}

// call makes one of any kind.
func (k *bookkeeper) call(n int) *logos.Call {
	start := ledgerDay.Add(time.Duration(k.r.Int64N(int64(30 * time.Hour)))).Truncate(time.Microsecond)
	c := &logos.Call{
		ID: callID(n), End: []logos.EndReason{logos.EndOK, logos.EndClientCancelled, logos.EndLost}[k.r.IntN(3)], ServiceTier: []string{"", "flex"}[k.r.IntN(2)],
		Decision: logos.Decision{
			Start: start.UnixMicro(), API: logos.APIChat, Team: logos.TeamID(k.r.IntN(3)), Project: logos.ProjectID(1 + k.r.IntN(3)), APIKey: logos.APIKeyID(1 + k.r.IntN(4)),
			EndUser: []string{"", "u1", "u2"}[k.r.IntN(3)],
		},
	}
	for i := range k.r.IntN(4) {
		a := logos.Attempt{Number: i + 1, Start: start, Target: logos.DecisionTarget{Provider: logos.ProviderID(1 + k.r.IntN(3)), Model: logos.ModelID(k.r.IntN(3))}, End: logos.EndOK}
		for _, m := range []logos.Meter{logos.MeterInput, logos.MeterCachedInput, logos.MeterOutput, logos.MeterWebSearch} {
			if i > 0 && k.r.IntN(2) == 0 {
				a.Meters = append(a.Meters, logos.MeterReading{Meter: m, Quantity: []int64{0, 1, k.r.Int64N(100_000), 1 << 61}[k.r.IntN(4)], Estimated: k.r.IntN(3) == 0})
			}
		}
		c.Attempts = append(c.Attempts, a)
	}
	return c
}

// rate rates a call, by a book or by nobody.
func (k *bookkeeper) rate(c *logos.Call, b *billing.Book) {
	if b != nil {
		b.RateCall(c)
	}
	for i := range c.Attempts {
		a := &c.Attempts[i]
		for _, m := range a.Meters {
			k.lines[lineKey{c.ID, a.Number, m.Meter}] = &ownLine{unknown: m.Quantity > 0}
		}
		k.priced(c, a)
	}
	k.calls = append(k.calls, c)
}

// priced notes what has a price now.
func (k *bookkeeper) priced(c *logos.Call, a *logos.Attempt) {
	if a.Charge == nil {
		return
	}
	for _, l := range a.Charge.Lines {
		if l.Price != nil {
			k.lines[lineKey{c.ID, a.Number, l.Meter}] = &ownLine{amounts: map[string]decimal.Decimal{a.Charge.Currency: l.Cost}}
		}
	}
}

// rerated notes that calls of a time were rated again.
func (k *bookkeeper) rerated(from, to time.Time, b *billing.Book) {
	for _, c := range k.calls {
		if at := c.Decision.StartTime(); at.Before(from) || !at.Before(to) {
			continue
		}
		again := *c
		again.Attempts = slices.Clone(c.Attempts)
		b.RateCall(&again)
		for i := range again.Attempts {
			a := &again.Attempts[i]
			delete(k.lines, lineKey{c.ID, a.Number, logos.MeterRequest})
			k.priced(c, a)
		}
	}
}

// sums returns what is expected of each group, which a call and its attempt belong to.
func (k *bookkeeper) sums(group func(c *logos.Call, a *logos.Attempt) string) map[string]string {
	type sum struct {
		calls, attempts, unknown int
		costs                    map[string]decimal.Decimal
		meters                   map[logos.Meter]decimal.Decimal
	}
	all := make(map[string]*sum)
	at := func(c *logos.Call, a *logos.Attempt) *sum {
		g := group(c, a)
		if all[g] == nil {
			all[g] = &sum{costs: make(map[string]decimal.Decimal), meters: make(map[logos.Meter]decimal.Decimal)}
		}
		return all[g]
	}
	for _, c := range k.calls {
		var last *logos.Attempt
		unknown := 0
		for i := range c.Attempts {
			last = &c.Attempts[i]
			s := at(c, last)
			s.attempts++
			for _, m := range last.Meters {
				s.meters[m.Meter] = s.meters[m.Meter].Add(decimal.NewFromInt(m.Quantity))
			}
			for _, m := range logos.Meters {
				if l := k.lines[lineKey{c.ID, last.Number, m}]; l != nil {
					for currency, amount := range l.amounts {
						s.costs[currency] = s.costs[currency].Add(amount)
					}
					if l.unknown {
						unknown = 1
					}
				}
			}
		}
		s := at(c, last)
		s.calls, s.unknown = s.calls+1, s.unknown+unknown
		for _, currency := range []string{"USD", "EUR"} {
			if amount, ok := k.other[ownKey{c.ID, currency}]; ok {
				s.costs[currency] = s.costs[currency].Add(amount)
			}
		}
	}
	out := make(map[string]string)
	for g, s := range all {
		out[g] = fmt.Sprintf("%d calls, %d attempts, %d unknown", s.calls, s.attempts, s.unknown)
		for _, m := range logos.Meters {
			if m != logos.MeterRequest && !s.meters[m].IsZero() {
				out[g] += fmt.Sprintf(", %s %s", s.meters[m], m)
			}
		}
		for _, currency := range []string{"EUR", "USD"} {
			if !s.costs[currency].IsZero() {
				out[g] += fmt.Sprintf(", %s %s", s.costs[currency], currency)
			}
		}
	}
	return out
}

// summed returns the same of what the store says.
func summed(t *testing.T, s *store.Store, q store.SummaryQuery, group func(*store.SummaryRow) string) map[string]string {
	t.Helper()
	q.From, q.To = ledgerDay, ledgerDay.AddDate(0, 0, 2)
	rows, err := s.Summarize(t.Context(), store.Scope{}, q)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, r := range rows {
		text := fmt.Sprintf("%d calls, %d attempts, %d unknown", r.Calls, r.Attempts, r.Unknown)
		for _, m := range logos.Meters {
			for _, x := range r.Meters {
				if x.Meter == m && m != logos.MeterRequest && !x.Quantity.IsZero() {
					text += fmt.Sprintf(", %s %s", x.Quantity, m)
				}
			}
		}
		for _, currency := range []string{"EUR", "USD"} {
			for _, x := range r.Costs {
				if x.Currency == currency && !x.Amount.IsZero() {
					text += fmt.Sprintf(", %s %s", x.Amount, x.Currency)
				}
			}
		}
		if out[group(r)] != "" {
			t.Errorf("group %s is there twice", group(r))
		}
		out[group(r)] = text
	}
	return out
}

// verified checks that the ledger adds up.
func verified(t *testing.T, s *store.Store) {
	t.Helper()
	c, err := s.VerifyLedger(t.Context(), ledgerDay.AddDate(0, 0, -5), ledgerDay.AddDate(0, 0, 10), func(f store.Finding) { t.Errorf("%s: %s", f.Check, f.What) })
	if err != nil || c.TotalsNotChecked {
		t.Fatalf("%+v, %v", c, err)
	}
}

// same compares the store's sums with the bookkeeper's, in several groupings.
func (k *bookkeeper) same(t *testing.T, s *store.Store) {
	t.Helper()
	for _, x := range []struct {
		q     store.SummaryQuery
		mine  func(*logos.Call, *logos.Attempt) string
		group func(*store.SummaryRow) string
	}{
		{store.SummaryQuery{}, func(*logos.Call, *logos.Attempt) string { return "" }, func(*store.SummaryRow) string { return "" }},
		{store.SummaryQuery{By: []string{"project_id", "model_id"}, Bucket: "day", Zone: "Europe/Berlin"}, func(c *logos.Call, a *logos.Attempt) string {
			model := logos.ModelID(0)
			if a != nil {
				model = a.Target.Model
			}
			return fmt.Sprint(c.Decision.StartTime().Add(time.Hour).Format(time.DateOnly), c.Decision.Project, model)
		}, func(r *store.SummaryRow) string {
			return fmt.Sprint(r.Start.Add(time.Hour).Format(time.DateOnly), r.IDs["project_id"], r.IDs["model_id"])
		}},
		{store.SummaryQuery{By: []string{"end_user", "api_key_id"}}, func(c *logos.Call, a *logos.Attempt) string {
			return fmt.Sprint(c.Decision.EndUser, c.Decision.APIKey)
		}, func(r *store.SummaryRow) string { return fmt.Sprint(r.Texts["end_user"], r.IDs["api_key_id"]) }},
		{store.SummaryQuery{By: []string{"end_reason"}, Bucket: "day"}, func(c *logos.Call, a *logos.Attempt) string {
			return fmt.Sprint(c.Decision.StartTime().Format(time.DateOnly), c.End)
		}, func(r *store.SummaryRow) string {
			return fmt.Sprint(r.Start.Format(time.DateOnly), r.Texts["end_reason"])
		}},
		{store.SummaryQuery{By: []string{"team_id"}, Bucket: "hour"}, func(c *logos.Call, a *logos.Attempt) string {
			return fmt.Sprint(c.Decision.StartTime().Truncate(time.Hour).UTC(), c.Decision.Team)
		}, func(r *store.SummaryRow) string { return fmt.Sprint(r.Start.UTC(), r.IDs["team_id"]) }},
		{store.SummaryQuery{By: []string{"service_tier"}, Bucket: "month", Zone: "Asia/Tokyo"}, func(c *logos.Call, a *logos.Attempt) string {
			return fmt.Sprint(c.Decision.StartTime().Add(9*time.Hour).Format("2006-01"), c.ServiceTier)
		}, func(r *store.SummaryRow) string {
			return fmt.Sprint(r.Start.Add(9*time.Hour).Format("2006-01"), r.Texts["service_tier"])
		}},
	} {
		if diff := cmp.Diff(k.sums(x.mine), summed(t, s, x.q, x.group)); diff != "" {
			t.Errorf("by %v the sums differ (-plain +summary):\n%s", x.q.By, diff)
		}
	}
}

// adjustSome refunds and corrects some calls.
func (k *bookkeeper) adjustSome(t *testing.T, s *store.Store) {
	t.Helper()
	for range 20 {
		c := k.calls[k.r.IntN(len(k.calls))]
		j := store.Adjustment{Kind: store.Correction, Amount: decimal.New(k.r.Int64N(1000)-500, -3), Currency: []string{"USD", "EUR"}[k.r.IntN(2)], Reason: "so"}
		if k.r.IntN(3) == 0 {
			j.Kind, j.Amount = store.Refund, decimal.New(-1-k.r.Int64N(3), -1)
		}
		_, err := s.Change(t.Context(), store.Actor{Method: "CreateAdjustment", Key: 3}, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Adjust(ctx, c.ID, j)
			return err
		})
		switch {
		case err == nil:
			key := ownKey{c.ID, j.Currency}
			k.other[key] = k.other[key].Add(j.Amount)
		case logos.KindOf(err) != logos.Conflict || j.Kind != store.Refund:
			t.Fatal(err)
		}
	}
}

// TestBooksAgreeWhateverHappens records calls from three gateways, rates them again, refunds and corrects, and compares
// with books that are kept apart.
func TestBooksAgreeWhateverHappens(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	if err := s.EnsurePartitions(t.Context(), ledgerDay, 1); err != nil {
		t.Fatal(err)
	}
	k := &bookkeeper{r: rand.New(rand.NewPCG(6, 4)), lines: make(map[lineKey]*ownLine), other: make(map[ownKey]decimal.Decimal)}
	var gateways errgroup.Group
	first := k.book(1)
	for g := range 3 {
		var batches []logos.LogBatch
		for b := range 6 {
			var batch logos.LogBatch
			for n := range 30 {
				c := k.call(g*1000 + b*100 + n)
				k.rate(c, []*billing.Book{nil, first, first}[k.r.IntN(3)])
				batch.Calls = append(batch.Calls, c)
			}
			batch.Calls = append(batch.Calls, batch.Calls[0])
			batches = append(batches, batch, batch)
		}
		gateways.Go(func() error {
			for _, b := range batches {
				if err := s.RecordCalls(t.Context(), fmt.Sprintf("gateway-%d", g), b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := gateways.Wait(); err != nil {
		t.Fatal(err)
	}
	verified(t, s)
	k.same(t, s)
	for round := range 4 {
		k.adjustSome(t, s)
		b := k.book(int64(round) + 2)
		from := ledgerDay.Add(time.Duration(k.r.IntN(24)) * time.Hour)
		p := store.Period{From: from, To: from.Add(12 * time.Hour), Reason: "a wrong price"}
		dry := p
		dry.DryRun = true
		would, err := s.Rerate(t.Context(), dry, b.RateCall)
		if err != nil {
			t.Fatal(err)
		}
		did, err := s.Rerate(t.Context(), p, b.RateCall)
		if diff := cmp.Diff(fmt.Sprint(would), fmt.Sprint(did)); diff != "" || err != nil {
			t.Errorf("a dry run says another thing, %v:\n%s", err, diff)
		}
		k.rerated(p.From, p.To, b)
		if again, err := s.Rerate(t.Context(), p, b.RateCall); again.Adjustments != 0 || err != nil {
			t.Errorf("rated again by the same prices: %+v, %v", again, err)
		}
		if round == 1 {
			if n, err := s.FoldUsage(t.Context(), ledgerDay.AddDate(0, 0, 1)); n == 0 || err != nil {
				t.Errorf("folded %d rows, %v", n, err)
			}
		}
		verified(t, s)
		k.same(t, s)
	}
	if n := one[int64](t, pgtest.Conn(t, url), "select count(*) from usage_hours where gateway = ''"); n == 0 {
		t.Error("no row is folded")
	}
}

func TestWhatIsOnRecordCannotBeEdited(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	record(t, s, callID(1))
	exec(t, conn, "insert into adjustments (start_at, call_id, kind, amount, currency, project_id, api_key_id) select start_at, call_id, 'correction', 1, 'EUR', 1, 1 from calls")
	for _, statement := range []string{
		"update calls set cost = 0", "update calls set currency = 'EUR'", "update attempts set cost = 0", "update attempts set price_version = 1", "update meters set quantity = 0", "update meters set cost = 0",
		"update adjustments set amount = 0", "delete from adjustments", "truncate adjustments",
	} {
		if _, err := conn.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: %v", statement, err)
		}
	}
	exec(t, conn, "update calls set end_user = ''")
}

// plantings are faults, and by which check each must be found.
var plantings = map[string]struct{ check, statement string }{
	"a call that costs more than its attempts":     {"call_cost", "update calls set cost = cost + 1 where call_id = $1"},
	"a call whose cost is not known":               {"call_cost", "update calls set cost = null where call_id = $1"},
	"an attempt that costs less than its meters":   {"attempt_cost", "update attempts set cost = cost - 0.000001 where call_id = $1"},
	"an unknown meter of a known attempt":          {"attempt_cost", "update meters set cost = null where call_id = $1"},
	"a second outcome":                             {"call_outcome", "insert into calls select start_at + interval '1 hour', call_id, gateway, revision, policy_version, api, stream, model, team_id, project_id, api_key_id, profile_id, end_user, session, labels, method, status, end_reason, duration_us, first_byte_us, queue_us, request_bytes, answer_bytes, service_tier, error_code, error_type, error_message, decision from calls where call_id = $1"},
	"a negative cost":                              {"negative", "update meters set cost = -1 where call_id = $1"},
	"another currency":                             {"currency", "update calls set currency = 'CHF' where call_id = $1"},
	"a cost in no currency":                        {"currency", "update attempts set currency = null where call_id = $1"},
	"a meter of no attempt":                        {"orphan", "update meters set attempt = 9 where call_id = $1"},
	"an attempt of no call":                        {"orphan", "delete from calls where call_id = $1"},
	"an adjustment of no call":                     {"orphan", "insert into adjustments (start_at, call_id, kind, amount, currency, project_id, api_key_id) select start_at, gen_random_uuid(), 'refund', -1, 'USD', 1, 1 from calls where call_id = $1"},
	"an adjustment that is not in the totals":      {"totals", "insert into adjustments (start_at, call_id, kind, amount, currency, project_id, api_key_id) select start_at, call_id, 'refund', -1, 'USD', project_id, api_key_id from calls where call_id = $1"},
	"what makes known what was known":              {"adjustment", "insert into adjustments (start_at, call_id, attempt, meter, kind, amount, currency, makes_known, project_id, api_key_id) select start_at, call_id, attempt, meter, 'rerating', 0, 'USD', true, 1, 1 from meters where call_id = $1"},
	"a call that is not in the totals":             {"totals", "update usage_hours set calls = calls - 1 where $1::text <> ''"},
	"a total of nothing":                           {"totals", "update usage_hours set hour = hour + interval '3 hours' where $1::text <> ''"},
	"a quantity in totals that nobody used":        {"totals", "update usage_hours set input = input + 1 where $1::text <> ''"},
	"a day that is not its hours":                  {"days", "insert into usage_days (day, series_id, currency, calls, attempts, unknown, cost, adjusted, first_at, last_at) select date_trunc('day', hour, 'UTC'), series_id, currency, 1, 1, 0, 0, 0, first_at, last_at from usage_hours where $1::text <> ''"},
	"a team's total that nobody used":              {"teams", "insert into usage_team_hours (hour, series_id, currency, calls, attempts, unknown, cost, adjusted, first_at, last_at) select hour, series_id, currency, 1, 1, 0, 0, 0, first_at, last_at from usage_hours where $1::text <> ''"},
	"a total that does not know what is not known": {"totals", "update usage_hours set unknown = 1 where $1::text <> ''"},
}

func TestVerifyFindsPlantedFaults(t *testing.T) {
	t.Parallel()
	for name, planted := range plantings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, url := pgtest.Store(t)
			k := &bookkeeper{r: rand.New(rand.NewPCG(6, 4)), lines: make(map[lineKey]*ownLine)}
			c := k.call(1)
			c.Decision.Start = ledgerDay.UnixMicro()
			c.Attempts = []logos.Attempt{{Number: 1, Start: ledgerDay, Target: logos.DecisionTarget{Provider: 1}, Meters: []logos.MeterReading{{Meter: logos.MeterInput, Quantity: 5}}}}
			billing.NewBook([]*logos.Price{{ID: 1, Version: 1, Provider: 1, Meter: logos.MeterInput, Amount: decimal.New(3, 0), Unit: 1000, Currency: "USD"}}, nil).RateCall(c)
			if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
				t.Fatal(err)
			}
			verified(t, s)
			conn := pgtest.Conn(t, url)
			exec(t, conn, "set session_replication_role = replica") // no trigger defends it
			exec(t, conn, planted.statement, string(c.ID))
			var found []string
			if _, err := s.VerifyLedger(t.Context(), ledgerDay.AddDate(0, 0, -1), ledgerDay.AddDate(0, 0, 1), func(f store.Finding) { found = append(found, f.Check+": "+f.What) }); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(found, func(f string) bool { return strings.HasPrefix(f, planted.check+": ") }) {
				t.Errorf("it finds %q, want one of %s", found, planted.check)
			}
		})
	}
}

// TestBucketsAreTheSumsOfTheirHours compares what is read by days, and partly taken back, with the hours.
func TestBucketsAreTheSumsOfTheirHours(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	k := &bookkeeper{r: rand.New(rand.NewPCG(6, 5)), lines: make(map[lineKey]*ownLine)}
	book := k.book(1)
	for b := range 3 {
		var batch logos.LogBatch
		for n := range 400 {
			c := k.call(b*1000 + n)
			c.Decision.Start = ledgerDay.Add(time.Duration(k.r.Int64N(int64(9 * 24 * time.Hour)))).UnixMicro()
			k.rate(c, book)
			batch.Calls = append(batch.Calls, c)
		}
		if err := s.RecordCalls(t.Context(), gateway, batch); err != nil {
			t.Fatal(err)
		}
		if _, err := s.FoldUsage(t.Context(), ledgerDay.AddDate(0, 0, 4*(b+1)).Add(7*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	verified(t, s)
	for range 150 {
		from := ledgerDay.Add(time.Duration(k.r.IntN(120)) * time.Hour)
		q := store.SummaryQuery{
			From: from, To: from.Add(time.Duration(1+k.r.IntN(120)) * time.Hour), By: [][]string{nil, {"project_id"}, {"team_id", "model_id"}}[k.r.IntN(3)],
			Bucket: []string{"", "hour", "day", "week", "month"}[k.r.IntN(5)], Zone: []string{"", "Europe/Berlin", "Asia/Kolkata", "America/Los_Angeles", "Pacific/Kiritimati"}[k.r.IntN(5)],
		}
		hours := q
		hours.Bucket, hours.Filter = "hour", "project_id > 0" // which the totals of teams have not got
		want, got := folded(t, s, hours, q), folded(t, s, q, q)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v (-hours +buckets):\n%s", q, diff)
		}
	}
}

// folded adds up the rows of a summary by the buckets of another.
func folded(t *testing.T, s *store.Store, q, by store.SummaryQuery) map[string]string {
	t.Helper()
	zone, err := time.LoadLocation(by.Zone)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.Summarize(t.Context(), store.Scope{}, q)
	if err != nil {
		t.Fatal(err)
	}
	type sum struct {
		calls, unknown int64
		cost, input    decimal.Decimal
	}
	all := make(map[string]*sum)
	for _, r := range rows {
		at := r.Start.In(zone)
		begin := map[string]string{"": "", "hour": at.Format(time.RFC3339), "day": at.Format(time.DateOnly), "month": at.Format("2006-01")}[by.Bucket]
		if by.Bucket == "week" {
			year, week := at.ISOWeek()
			begin = fmt.Sprint(year, week)
		}
		key := fmt.Sprint(begin, " ", r.IDs["project_id"], " ", r.IDs["team_id"], " ", r.IDs["model_id"])
		if all[key] == nil {
			all[key] = &sum{}
		}
		x := all[key]
		x.calls, x.unknown = x.calls+r.Calls, x.unknown+r.Unknown
		for _, c := range r.Costs {
			x.cost = x.cost.Add(c.Amount)
		}
		for _, m := range r.Meters {
			if m.Meter == logos.MeterInput {
				x.input = x.input.Add(m.Quantity)
			}
		}
	}
	out := make(map[string]string)
	for key, x := range all {
		out[key] = fmt.Sprint(x.calls, x.unknown, x.cost, x.input)
	}
	return out
}

// TestHoursThatAnOlderProgramFoldsAreWhole has rows folded without the totals of teams, as the program before does.
func TestHoursThatAnOlderProgramFoldsAreWhole(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	k := &bookkeeper{r: rand.New(rand.NewPCG(6, 6)), lines: make(map[lineKey]*ownLine)}
	q := store.SummaryQuery{From: ledgerDay, To: ledgerDay.Add(48 * time.Hour), By: []string{"team_id", "model_id"}, Bucket: "hour"}
	for round := range 3 {
		var batch logos.LogBatch
		for n := range 100 {
			c := k.call(round*1000 + n)
			c.Decision.Project = logos.ProjectID(1 + round)
			k.rate(c, k.book(1))
			batch.Calls = append(batch.Calls, c)
		}
		if err := s.RecordCalls(t.Context(), gateway, batch); err != nil {
			t.Fatal(err)
		}
		if round == 1 {
			exec(t, conn, "update usage_hours set gateway = '' where gateway <> ''")
		} else if _, err := s.FoldUsage(t.Context(), ledgerDay.AddDate(0, 0, 3)); err != nil {
			t.Fatal(err)
		}
		if open := one[bool](t, conn, "select exists (select from usage_open_hours)"); open != (round == 1) {
			t.Errorf("round %d: are there open hours? %t", round, open)
		}
		all := q
		all.Filter = "project_id > 0" // which the totals of teams have not got
		if diff := cmp.Diff(folded(t, s, all, q), folded(t, s, q, q)); diff != "" {
			t.Errorf("round %d (-projects +teams):\n%s", round, diff)
		}
	}
}

// TestAProgramThatKnowsNoSearchesFoldsNone deletes rows as the fold of the program before does.
func TestAProgramThatKnowsNoSearchesFoldsNone(t *testing.T) {
	t.Parallel()
	s, url := pgtest.Store(t)
	conn := pgtest.Conn(t, url)
	for n, m := range []logos.Meter{logos.MeterWebSearch, logos.MeterOutput} {
		c := &logos.Call{ID: callID(n), End: logos.EndOK, Decision: logos.Decision{Start: ledgerDay.UnixMicro(), Project: 1, APIKey: logos.APIKeyID(1 + n)}}
		c.Attempts = []logos.Attempt{{Number: 1, Start: ledgerDay, Target: logos.DecisionTarget{Provider: 1}, Meters: []logos.MeterReading{{Meter: m, Quantity: 5}}}}
		if err := s.RecordCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{c}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := one[int64](t, conn, "with gone as (delete from usage_hours where gateway <> '' returning output) select count(output) from gone"); n != 1 {
		t.Errorf("it takes %d rows of other meters, want 1", n)
	}
	if n, err := s.FoldUsage(t.Context(), ledgerDay.AddDate(0, 0, 1)); n != 1 || err != nil {
		t.Errorf("this program folds %d rows, want the one that is left; %v", n, err)
	}
	if n := one[string](t, conn, "select web_search::text from usage_team_hours where web_search is not null"); n != "5" {
		t.Errorf("%s searches are in the totals, want 5", n)
	}
}
