package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
)

// A mixedRecord is a call as the database has it.
type mixedRecord struct {
	ID, Session, Gateway, End string
	Status                    int
	Cost                      *decimal.Decimal
	Currency                  string
	Start                     time.Time
	attempts                  []mixedAttempt
}

type mixedAttempt struct {
	provider            string
	reported, estimated map[string]int64 // by meter, of tokens
}

// used is what was used, reported or estimated.
func (a mixedAttempt) used() map[string]int64 {
	out := maps.Clone(a.reported)
	for meter, n := range a.estimated {
		out[meter] += n
	}
	return out
}

// mixedRecords reads all records.
func (g *gateway) mixedRecords() []*mixedRecord {
	g.t.Helper()
	conn := g.db()
	rows, err := conn.Query(context.Background(), "select call_id::text, session, gateway, end_reason, coalesce(status, 0), cost::text, coalesce(currency, ''), start_at from calls")
	if err != nil {
		g.t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*mixedRecord, error) {
		var r mixedRecord
		var cost *string
		err := row.Scan(&r.ID, &r.Session, &r.Gateway, &r.End, &r.Status, &cost, &r.Currency, &r.Start)
		if cost != nil {
			c := decimal.RequireFromString(*cost)
			r.Cost = &c
		}
		return &r, err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	byID := make(map[string]*mixedRecord)
	for _, r := range all {
		byID[r.ID] = r
	}
	rows, err = conn.Query(context.Background(), `select a.call_id::text, p.name, coalesce(m.meter, ''), coalesce(m.quantity, 0), coalesce(m.estimated, false), a.attempt
		from attempts a join providers p on p.id = a.provider_id left join meters m using (start_at, call_id, attempt) order by a.call_id, a.attempt`)
	if err != nil {
		g.t.Fatal(err)
	}
	var id, provider, meter string
	var n int64
	var estimated bool
	var number int
	_, err = pgx.ForEachRow(rows, []any{&id, &provider, &meter, &n, &estimated, &number}, func() error {
		byID[id].add(number, provider, meter, n, estimated)
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return all
}

func (r *mixedRecord) add(number int, provider, meter string, n int64, estimated bool) {
	if number > len(r.attempts) {
		r.attempts = append(r.attempts, mixedAttempt{provider: provider, reported: make(map[string]int64), estimated: make(map[string]int64)})
	}
	a := r.attempts[len(r.attempts)-1]
	switch {
	case meter == "" || meter == "request":
	case estimated:
		a.estimated[meter] = n
	default:
		a.reported[meter] = n
	}
}

// oneProvider says that no other one was tried.
func (r *mixedRecord) oneProvider() bool {
	return !slices.ContainsFunc(r.attempts, func(a mixedAttempt) bool { return a.provider != r.attempts[0].provider })
}

// An audit compares what is on record with what callers and providers know.
type audit struct {
	t        *testing.T
	book     *mixedBook
	outcomes []*outcome
	troubles
	records []*mixedRecord

	ends           map[string]int
	recorded, said map[string]int64 // reported tokens by meter, as recorded and as the providers' books have them
	bill, due      decimal.Decimal
	unpriced       int
	undecided      int
	turnedAway     int            // by budgets that are not reached, or since all that could serve are failing
	refusals       map[string]int // of these, by code
	inOutage       int            // of these, in the outage
	beyond         int            // attempts that were answered and are not the charged one
	estimates      map[string]*deviation
	faults         map[string]int // by what they are
}

// A deviation is how far estimates are from what the providers charge.
type deviation struct {
	readings           int
	estimated, charged int64
	low, high          float64 // the extremes of estimate by truth
}

func (d *deviation) add(estimated, charged int64) {
	d.readings++
	d.estimated += estimated
	d.charged += charged
	ratio := float64(estimated+1) / float64(charged+1)
	if d.readings == 1 {
		d.low, d.high = ratio, ratio
	}
	d.low, d.high = min(d.low, ratio), max(d.high, ratio)
}

// fault tells of what does not hold, of each sort the first few.
func (a *audit) fault(format string, args ...any) {
	a.t.Helper()
	if a.faults[format]++; a.faults[format] <= 5 {
		a.t.Errorf(format, args...)
	}
}

func (a *audit) run() {
	a.faults, a.refusals = make(map[string]int), make(map[string]int)
	a.ends, a.recorded, a.said, a.estimates = make(map[string]int), make(map[string]int64), make(map[string]int64), make(map[string]*deviation)
	byID, bySession := make(map[string]*mixedRecord), make(map[string]*mixedRecord)
	for _, r := range a.records {
		if byID[r.ID] != nil || bySession[r.Session] != nil {
			a.fault("call %s, number %s, is on record twice", r.ID, r.Session)
		}
		byID[r.ID], bySession[r.Session] = r, r
	}
	for _, id := range a.book.ids() {
		if byID[id] == nil {
			a.fault("call %s, %s, reached a provider and is not on record", id, a.book.entries(id)[0].call.fate)
		}
	}
	for _, o := range a.outcomes {
		r := bySession[strconv.Itoa(o.call.n)]
		delete(bySession, strconv.Itoa(o.call.n))
		switch {
		case r == nil && (o.disturbed() || o.call.fate == fateStranger):
			a.undecided++ // it was never decided, so there is nothing that could be recorded
		case r == nil && o.id == "":
			a.fault("call %d, which %s, is not on record: %+v", o.call.n, o.call.fate, o)
		case r == nil:
			a.fault("call %s, which %s, had status %d, %s, and is not on record", o.id, o.call.fate, o.status, o.code)
		case o.id != "" && o.id != r.ID:
			a.fault("call %d is %s to the caller and %s on record", o.call.n, o.id, r.ID)
		default:
			a.one(o, r)
		}
	}
	for session, r := range bySession {
		a.fault("call %s is on record, and nobody made it: %q", r.ID, session)
	}
	// A gateway that has just started has leased nothing yet, and waits no longer than 200 ms for the database; if that
	// goes away soon after, the lease is for less than full demand.
	if a.turnedAway*50 > len(a.outcomes) {
		a.fault("%d calls were refused", a.turnedAway)
	}
	a.estimated()
	a.sums()
}

// expectedEnd is the end reason of each fate that takes its course.
var expectedEnd = map[string]string{
	fateUnknown: "refused", fateEverywhere: "upstream_error", fateRejected: "rejected", fateErrs: "upstream_error", fateStalled: "timeout",
	fateLeft: "client_cancelled", fateLeftBegun: "client_cancelled", fateLeftFirst: "client_cancelled", fateLeftMid: "client_cancelled", fateLeftUsage: "client_cancelled",
	fateCut: "truncated", fateCutUsage: "truncated",
}

// one compares the record of one call.
func (a *audit) one(o *outcome, r *mixedRecord) {
	c := o.call
	a.ends[r.End]++
	want := expectedEnd[c.fate]
	switch {
	case want == "":
		want = "ok"
	case c.fate == fateCut && !c.stream:
		want = "upstream_error" // nothing of it has reached the caller
	}
	// An Envoy that is killed says nothing; one that ends as its supervisor is killed calls it a cancellation.
	lost := (r.End == "lost" || r.End == "client_cancelled") && a.mayBeLost(o, r)
	// By a budget of which nothing is leased yet, or since both providers fail too often.
	turnedAway := c.needsSecond() && r.End == "upstream_error" && r.oneProvider() || r.End == "refused" && slices.Contains([]string{"budget_exceeded", "rate_limit_exceeded", "budget_unavailable", "no_deployment"}, o.code)
	if turnedAway {
		a.turnedAway++
		a.refusals[o.code]++
		if r.End == "refused" && o.ended.After(a.outage) && o.ended.Before(a.outageIsOver) {
			a.inOutage++
		}
	}
	if r.End != want && !lost && !o.disturbed() && !turnedAway {
		a.fault("call %s, which %s (%s, streamed %t), ended as %s with status %d; the caller saw %d, complete %t, code %s, %v", r.ID, c.fate, c.api, c.stream, r.End, r.Status, o.status, o.complete, o.code, o.ended.Format(time.TimeOnly))
	}
	if o.complete && o.status == 200 && r.End != "ok" && !lost && c.fate != fateErrs {
		a.fault("call %s was complete and ended as %s", r.ID, r.End)
	}
	entries := a.book.entries(r.ID)
	if len(entries) > len(r.attempts) && r.End != "lost" {
		a.fault("call %s, which %s, has %d attempts, and providers saw %d", r.ID, c.fate, len(r.attempts), len(entries))
	}
	seen := match(r, entries)
	for i, attempt := range r.attempts {
		switch e := seen[i]; {
		case i == len(r.attempts)-1, len(attempt.used()) > 0 && e != nil && e.taken:
			a.tokens(o, r, attempt, e, i == len(r.attempts)-1)
		case len(attempt.used()) > 0:
			a.fault("call %s, which %s, has meters %v of an attempt that failed", r.ID, c.fate, attempt.used())
		case e != nil && e.taken:
			a.beyond++
		}
	}
	a.money(r, seen)
}

// match finds for each attempt what its provider knows of it; nil: nothing.
func match(r *mixedRecord, entries []*bookEntry) []*bookEntry {
	out := make([]*bookEntry, len(r.attempts))
	for i, attempt := range r.attempts {
		if at := slices.IndexFunc(entries, func(e *bookEntry) bool { return e.provider == attempt.provider }); at >= 0 {
			out[i], entries = entries[at], entries[at+1:]
		}
	}
	return out
}

// mayBeLost says whether the Envoy of a call was killed while it was under way, or as it had just ended.
func (a *audit) mayBeLost(o *outcome, r *mixedRecord) bool {
	return slices.ContainsFunc(a.killed, func(k killing) bool {
		return k.gateway == o.gateway && r.Start.Before(k.at.Add(2*time.Second)) && o.ended.After(k.at.Add(-time.Second))
	})
}

// tokens compares reported meters with the book, and estimates with what it would have been.
func (a *audit) tokens(o *outcome, r *mixedRecord, attempt mixedAttempt, e *bookEntry, last bool) {
	switch {
	case e == nil || !e.taken:
		if len(attempt.reported) > 0 {
			a.fault("call %s, which %s, has meters %v, and no provider took it", r.ID, o.call.fate, attempt.reported)
		}
	case len(attempt.estimated) == 0 && len(attempt.reported) == 0:
		a.fault("call %s, which %s, was charged %+v, and nothing is on record", r.ID, o.call.fate, e.charged)
	case len(attempt.estimated) == 0 && !e.told:
		a.fault("call %s, which %s, has reported meters %v, and no usage was sent", r.ID, o.call.fate, attempt.reported)
	case len(attempt.estimated) > 0 && last && r.End != "lost" && (o.sawUsage || e.told && r.End == "ok"):
		a.fault("call %s, which %s, has estimates %v, and usage was sent", r.ID, o.call.fate, attempt.estimated)
	}
	var want map[string]int64
	if e != nil && e.taken {
		want = e.charged.byMeter()
	}
	for meter, n := range attempt.reported {
		a.recorded[meter] += n
		a.said[meter] += want[meter]
		if n != want[meter] {
			a.fault("call %s, which %s, has %d of %s; the provider charged %d", r.ID, o.call.fate, n, meter, want[meter])
		}
	}
	for meter, n := range want {
		if _, known := attempt.reported[meter]; !known && len(attempt.estimated) == 0 && n != 0 {
			a.fault("call %s, which %s, has no %s; the provider charged %d", r.ID, o.call.fate, meter, n)
		}
	}
	for meter, n := range attempt.estimated {
		if o.call.fate == fateHuge {
			continue // its counts have nothing to do with its texts
		}
		charged := want["output"] + want["reasoning"]
		if meter == "input" {
			charged = want["input"] + want["cached_input"] + want["cache_write"] + want["cache_write_1h"]
		}
		a.deviation(r, o.call, meter, e).add(n, charged)
	}
}

// What estimates are of.
const (
	ofPrompts  = "prompts"
	ofUntaken  = "prompts that no provider had yet"
	ofBroken   = "answers that broke off"
	ofThinking = "answers that broke off, after reasoning that nobody sees"
	ofWhole    = "whole answers without usage"
	ofUnseen   = "answers of which nobody has seen anything"
)

// deviation returns where an estimate counts.
func (a *audit) deviation(r *mixedRecord, c *mixedCall, meter string, e *bookEntry) *deviation {
	kind := ofBroken
	switch {
	case meter == "input" && (e == nil || !e.taken):
		kind = ofUntaken
	case meter == "input":
		kind = ofPrompts
	case r.End == "lost", e == nil, r.End != "ok" && !c.stream, c.fate == fateLeft, c.fate == fateLeftBegun, c.fate == fateSilent:
		kind = ofUnseen
	case r.End == "ok":
		kind = ofWhole
	case c.api != "messages" && c.thinks():
		kind = ofThinking
	}
	if a.estimates[kind] == nil {
		a.estimates[kind] = &deviation{}
	}
	return a.estimates[kind]
}

// money works out what the attempts cost: from the provider's book where it was reported, else from what is on record.
func (a *audit) money(r *mixedRecord, seen []*bookEntry) {
	want, known := decimal.Zero, true
	for i, attempt := range r.attempts {
		used := attempt.used()
		switch {
		case len(used) == 0:
			continue
		case attempt.provider == "free":
			known = false
			continue
		case len(attempt.estimated) == 0 && seen[i] != nil:
			used = seen[i].charged.byMeter()
		}
		want = want.Add(mixedCost(attempt.provider, used))
	}
	switch {
	case !known:
		a.unpriced++
		if r.Cost != nil {
			a.fault("call %s costs %v, and nobody knows the price", r.ID, r.Cost)
		}
	case r.Cost == nil || !r.Cost.Equal(want) || !want.IsZero() && r.Currency != "EUR":
		a.fault("call %s costs %v %s, want %s EUR", r.ID, r.Cost, r.Currency, want)
	default:
		a.bill, a.due = a.bill.Add(*r.Cost), a.due.Add(want)
	}
}

// The error of estimates: of all of a kind together, and of each. What nobody sees, nobody can estimate: neither how far an
// answer is that has not begun, nor reasoning. The first is 0 on record.
var statedErrors = map[string]struct{ sum, low, high float64 }{
	ofPrompts: {0.1, 0.5, 2},
	ofBroken:  {0.3, 0.4, 6},
}

func (a *audit) estimated() {
	for kind, stated := range statedErrors {
		d := a.estimates[kind]
		if d == nil {
			a.fault("there are no estimates of %s", kind)
			continue
		}
		if off := float64(d.estimated-d.charged) / float64(d.charged); off > stated.sum || off < -stated.sum || d.low < stated.low || d.high > stated.high {
			a.fault("estimates of %s are off by %+.2f, each by %.2f to %.2f times", kind, off, d.low, d.high)
		}
	}
	if d := a.estimates[ofUnseen]; d != nil && d.estimated > int64(d.readings)/10 {
		a.fault("of %s there is %d on record", ofUnseen, d.estimated)
	}
}

func (a *audit) sums() {
	if !maps.Equal(a.recorded, a.said) {
		a.fault("on record are %v tokens, the providers say %v", a.recorded, a.said)
	}
	if !a.bill.Equal(a.due) {
		a.fault("the bill is %s EUR, by the prices it is %s", a.bill, a.due)
	}
}

// budgets compares counters with the ledger.
func (a *audit) budgets(g *gateway, ids map[string]string) {
	money, requests, tokens := decimal.Zero, int64(0), int64(0)
	for _, r := range a.records {
		if r.End == "refused" {
			continue
		}
		if len(r.attempts) > 0 {
			requests++
		}
		for _, attempt := range r.attempts {
			for _, n := range attempt.used() {
				tokens += n
			}
		}
		if r.Cost != nil {
			money = money.Add(r.Cost.RoundCeil(9)) // as documented
		}
	}
	for name, want := range map[string]decimal.Decimal{"money": money, "requests": decimal.NewFromInt(requests), "tokens": decimal.NewFromInt(tokens)} {
		var c object
		g.eventually("a counter with nothing reserved", waitLong, func() bool {
			c = g.counter(ids[name])
			return c["reserved"] == "0"
		})
		if got := decimal.RequireFromString(c["spent"].(string)); !got.Equal(want) {
			a.fault("budget %s has spent %s, the ledger's sum is %s", name, got, want)
		}
		a.t.Logf("budget %s: spent %v, of which %v by %v calls beyond what was reserved; the ledger's sum is %s", name, c["spent"], c["overrun"], c["overruns"], want)
	}
}

func (a *audit) table() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "calls made\t%d\non record\t%d\nnever decided, not on record\t%d\nrefused, with too little leased or no provider\t%d\t%v\tin the outage\t%d\nanswered attempts beside the charged one\t%d\n", len(a.outcomes), len(a.records), a.undecided, a.turnedAway, a.refusals, a.inOutage, a.beyond)
	for _, end := range slices.Sorted(maps.Keys(a.ends)) {
		fmt.Fprintf(w, "ended as %s\t%d\n", end, a.ends[end])
	}
	for _, meter := range slices.Sorted(maps.Keys(a.recorded)) {
		fmt.Fprintf(w, "reported %s\t%d\tproviders' books\t%d\n", meter, a.recorded[meter], a.said[meter])
	}
	fmt.Fprintf(w, "bill, EUR\t%s\tby books and prices\t%s\tof unknown cost\t%d\n", a.bill, a.due, a.unpriced)
	for _, kind := range slices.Sorted(maps.Keys(a.estimates)) {
		d := a.estimates[kind]
		fmt.Fprintf(w, "estimated %s\t%d readings\t%d\tproviders' books\t%d\t%+.0f %%\teach %.2f to %.2f times\n", kind, d.readings, d.estimated, d.charged, 100*float64(d.estimated-d.charged)/float64(max(1, d.charged)), d.low, d.high)
	}
	for what, n := range a.faults {
		fmt.Fprintf(w, "%d times\t%s\n", n, what)
	}
	w.Flush()
	return out.String()
}
