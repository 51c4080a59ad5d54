package e2e_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
)

// An ended is a row whose call was made.
type ended struct {
	ending
	n       int
	scripts []*script
	before  []usage // that the providers had charged
	id      string
	rec     *record
}

func (e *ended) model() string   { return fmt.Sprintf("m%d", e.n) }
func (e *ended) session() string { return fmt.Sprintf("row %d", e.n) }

// setEnding deploys a row's model at its providers, and sets their prices.
func (g *gateway) setEnding(t *testing.T, n int, row ending) *ended {
	t.Helper()
	e := &ended{ending: row, n: n}
	var targets []target
	for i, acts := range row.providers {
		name := fmt.Sprintf("p%d-%d", n, i)
		switch {
		case acts == nil:
			targets = append(targets, target{name, "http://" + freePorts(t, 1)[0] + "/v1", "sk", "authorization", "Bearer {}"})
		case len(acts) == 0:
			targets = append(targets, target{name, "http://" + deaf(t) + "/v1", "sk", "authorization", "Bearer {}"})
		default:
			for j := range acts {
				acts[j] = warmed(acts[j])
			}
			s := newScript(t, acts...)
			e.scripts, targets = append(e.scripts, s), append(targets, s.openai(name))
		}
	}
	g.connect(e.model(), "", targets...)
	for _, x := range targets {
		for meter, amount := range map[string]string{"input": "1", "output": "10"} {
			g.administer("POST", "prices", object{"provider": x.provider, "meter": meter, "amount": amount, "currency": "EUR"})
		}
	}
	if row.policy != nil {
		g.administer("POST", "policies", object{"name": e.model(), "level": "access_profile", "project": "default", "access_profile": "for " + e.model(), "attempts": row.policy})
	}
	if row.prepare != nil {
		row.prepare(g, e.model())
	}
	return e
}

// body is what a call of a row says, with a prompt of so many words.
func (e *ended) body(n int) string {
	return fmt.Sprintf(`{"model":%q,"max_tokens":%d,"stream":%t,"messages":[{"role":"user","content":%q}]}`, e.model(), cmp.Or(e.maxTokens, 100), e.stream, words(n))
}

func (e *ended) path() string {
	if e.api == "" {
		return "/v1/chat/completions"
	}
	return e.api
}

// warmUp makes calls whose usage is reported, from which the gateway learns what a token of the targets takes.
func (g *gateway) warmUp(e *ended) {
	if e.prepare != nil || len(e.scripts) != len(e.providers) {
		return
	}
	for _, n := range []int{20, 40, 80, 120, 160, 200} {
		if r := g.call("POST", e.path(), e.body(n), "content-type: "+warmType, "x-logos-profile: for "+e.model()); r.status != 200 || r.err != nil {
			g.t.Errorf("a call that warms up %q gets %v, %v", e.name, r, r.err)
		}
	}
}

// makeEnding makes the call of a row, as its caller does.
func (g *gateway) makeEnding(e *ended) {
	for _, s := range e.scripts {
		s.starts()
		e.before = append(e.before, s.books())
	}
	ctx, leave := context.WithCancel(g.t.Context())
	defer leave()
	if e.goes != nil {
		go e.goes(leave)
	}
	enough := func(line string) bool { return e.leaves != "" && strings.Contains(line, e.leaves) }
	err := g.readUntil(ctx, e.path(), e.body(promptWords), enough, "x-logos-profile: for "+e.model(), "x-logos-session: "+e.session(), "x-logos-user: "+e.session())
	if err != nil && e.goes == nil {
		g.t.Errorf("%s: %v", e.name, err)
	}
}

// TestWhatIsChargedHoweverACallEnds plays each row of README's table on an Envoy, and compares what is on record, what
// it costs and what budgets have settled with the providers' own books.
func TestWhatIsChargedHoweverACallEnds(t *testing.T) {
	g := start(t, map[string]string{"LOGOS_FIRST_BYTE_TIMEOUT": firstByteLimit.String(), "LOGOS_IDLE_TIMEOUT": idleLimit.String(), "LOGOS_MAX_DURATION": "5s"})
	var rows []*ended
	for n, row := range endings(t) {
		rows = append(rows, g.setEnding(t, n, row))
	}
	g.waitRevision()
	g.together(rows, g.warmUp)
	g.eventually("records of what warms up", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
	budgets := map[string]string{}
	for unit, limit := range map[string]string{"money": "1", "tokens": "100000", "requests": "10", "parallel": "10"} {
		budgets[unit] = g.administer("POST", "budgets", object{"name": unit, "unit": unit, "amount": limit, "each": "end_user", "currency": map[string]string{"money": "EUR"}[unit]})["id"].(string)
	}
	g.waitRevision()
	g.together(slices.DeleteFunc(slices.Clone(rows), func(e *ended) bool { return e.apart }), g.makeEnding)
	for _, e := range rows {
		if e.apart {
			g.makeApart(e)
		}
	}
	var lines []string
	for _, e := range rows {
		t.Run(e.name, func(t *testing.T) { lines = append(lines, g.of(t).expectEnding(e, budgets)) })
	}
	t.Logf("\n| a call that | on record as | the providers charged | is on record with | at | budgets spent of reserved |\n|---|---|---|---|---|---|\n%s", strings.Join(lines, "\n"))
	if out, err := g.ledger("verify"); err != nil {
		t.Errorf("logos ledger verify: %v: %s", err, out)
	}
}

func (g *gateway) together(rows []*ended, do func(*ended)) {
	var wg sync.WaitGroup
	for _, e := range rows {
		wg.Go(func() { do(e) })
	}
	wg.Wait()
}

// makeApart makes a call whose moment the gateway tells: while it waits for a connection, or before its Envoy dies.
func (g *gateway) makeApart(e *ended) {
	g.t.Helper()
	if e.end == "lost" {
		ended := make(chan struct{})
		go func() { defer close(ended); g.makeEnding(e) }()
		g.eventually("the stream", waitLong, func() bool {
			n, _, _ := e.scripts[0].saw()
			return n == 1 && e.scripts[0].books().output-e.before[0].output == spoken
		})
		g.killAndWait("envoy")
		<-ended
		return
	}
	e.goes = func(leave func()) {
		defer leave()
		g.eventually("a call that waits for a connection", waitLong, func() bool { return g.stat("upstream_rq_pending_active") > 0 })
	}
	g.makeEnding(e)
}

// stat returns the sum of Envoy's statistics of a name.
func (g *gateway) stat(name string) (sum int) {
	resp, err := http.Get("http://" + g.stats + "/stats?filter=" + name)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(body)) {
		var n int
		_, value, _ := strings.Cut(line, ": ")
		_, _ = fmt.Sscan(value, &n)
		sum += n
	}
	return sum
}

// expectEnding checks and describes what became of a row.
func (g *gateway) expectEnding(e *ended, budgets map[string]string) (row string) {
	t := g.t
	g.eventually("record", waitLong, func() bool { return g.scalar("select count(*) from calls where session = $1", e.session()) > 0 })
	conn := g.db()
	var cost, currency *string
	if err := conn.QueryRow(t.Context(), "select call_id::text, cost::text, currency from calls where session = $1", e.session()).Scan(&e.id, &cost, &currency); err != nil {
		t.Fatal(err)
	}
	e.rec = g.record(e.id)
	var book usage
	for i, s := range e.scripts {
		b := s.books()
		book.input, book.output = book.input+b.input-e.before[i].input, book.output+b.output-e.before[i].output
	}
	got := e.compare(t, book)
	want := decimal.New(got.input+10*got.output, -6)
	switch {
	case e.unknown:
		if cost != nil {
			t.Errorf("it costs %s, want unknown", *cost)
		}
	case cost == nil:
		t.Error("its cost is unknown")
	case !decimal.RequireFromString(*cost).Equal(want):
		t.Errorf("it costs %s, want %s", *cost, want)
	}
	settled := g.expectSettled(conn, e, got, want, budgets)
	price := "unknown"
	if cost != nil {
		price = *cost
	}
	return fmt.Sprintf("| %s | %s | %d + %d | %s | %s | %s |", e.name, e.rec.EndReason, book.input, book.output, e.rec.meters(), price, settled)
}

// compare compares the record with the providers' books: to the token where all is reported, and within a quarter
// where some is estimated.
func (e *ended) compare(t *testing.T, book usage) (got usage) {
	t.Helper()
	var shape []string
	estimated := false
	for _, a := range e.rec.Attempts {
		var parts []string
		for _, m := range a.Meters {
			sign := "="
			if m.Estimated {
				sign, estimated = "~", true
			}
			if parts = append(parts, m.Meter+sign); m.Meter == "output" {
				got.output += m.Quantity
			} else {
				got.input += m.Quantity
			}
		}
		shape = append(shape, strings.Join(parts, " "))
	}
	if e.rec.EndReason != e.end || !slices.Equal(shape, e.meters) {
		t.Errorf("on record is %s with %q (%+v), want %s with %q", e.rec.EndReason, shape, e.rec, e.end, e.meters)
	}
	for _, x := range []struct {
		what         string
		got, charged int64
	}{{"prompts", got.input, book.input - e.unseen.input}, {"answers", got.output, book.output - e.unseen.output}} {
		off := max(x.got-x.charged, x.charged-x.got)
		if off > 0 && !estimated || off > max(1, x.charged/4) {
			t.Errorf("on record are %d tokens of %s, the providers charged %d that can be seen", x.got, x.what, x.charged)
		}
	}
	return got
}

// expectSettled waits until the budgets hold nothing for the row's end user any more, and have settled what it used.
func (g *gateway) expectSettled(conn *pgx.Conn, e *ended, got usage, cost decimal.Decimal, budgets map[string]string) string {
	t := g.t
	if e.end == "refused" {
		if n := g.scalar("select count(*) from budget_counters where each_key = $1", "end_user:"+e.rec.EndUser); n != 0 && g.counterOf(budgets["requests"], e.rec.EndUser)["spent"] != "0" {
			t.Errorf("a call that was refused counts")
		}
		return "nothing"
	}
	reserved := map[string]decimal.Decimal{}
	rows, err := conn.Query(t.Context(), "select r->>'u', coalesce(r->>'a', '0') from calls, jsonb_array_elements(decision->'bu') r where session = $1", e.session())
	if err != nil {
		t.Fatal(err)
	}
	var unit, amount string
	if _, err := pgx.ForEachRow(rows, []any{&unit, &amount}, func() error { reserved[unit] = decimal.RequireFromString(amount); return nil }); err != nil {
		t.Fatal(err)
	}
	reserved["money"] = reserved["money"].Shift(-9)
	if e.unknown {
		cost = reserved["money"]
	}
	want := map[string]string{"money": cost.String(), "tokens": fmt.Sprint(got.input + got.output), "requests": fmt.Sprint(min(1, len(e.rec.Attempts))), "parallel": "0"}
	for unit, spent := range want {
		var c object
		g.eventually("settlement of "+unit, waitLong, func() bool { c = g.counterOf(budgets[unit], e.rec.EndUser); return c["reserved"] == "0" })
		overruns := "0"
		if unit == "money" || unit == "tokens" {
			overruns = fmt.Sprint(e.overruns)
		}
		if c["spent"] != spent || c["overruns"] != overruns {
			t.Errorf("the budget of %s has spent %v, with %v overruns; want %s and %s", unit, c["spent"], c["overruns"], spent, overruns)
		}
	}
	return fmt.Sprintf("%s of %s EUR, %s of %s tokens, %s of 1 call", want["money"], reserved["money"], want["tokens"], reserved["tokens"], want["requests"])
}

// counterOf returns an end user's counter of a budget.
func (g *gateway) counterOf(budget, user string) object {
	g.t.Helper()
	list, _ := g.adminCall(g.root, "GET", "/admin/v1/budgets/"+budget+"/counters?page_size=1000", nil)["counters"].([]any)
	for _, c := range list {
		if o := c.(object); o["key"] == "end_user:"+user {
			return o
		}
	}
	return object{"spent": "0", "reserved": "0", "overruns": "0"}
}
