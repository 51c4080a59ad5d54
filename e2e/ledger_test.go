package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
)

// ledger runs a command of the ledger on the gateway's database.
func (g *gateway) ledger(args ...string) (out string, err error) {
	text, err := g.prepare(append([]string{"ledger"}, args...)...).CombinedOutput()
	return string(text), err
}

// TestTheLedgerAddsUpToTheProvidersBooks has `logos serve` killed under load, sets prices too late, rates the calls
// again, and compares the bill with what the provider has in its own books.
func TestTheLedgerAddsUpToTheProvidersBooks(t *testing.T) {
	p := newProvider(t, mixed)
	g := start(t, nil)
	g.deploy("m", "", p.openai("p"))
	stop := make(chan struct{})
	wait := g.load(4, "m", stop)
	g.eventually("some records", waitLong, func() bool { return g.scalar("select count(*) from calls") > 100 })
	g.killAndWait("serve")
	g.eventually("more records", waitLong, func() bool { return g.scalar("select count(*) from calls") > 200 })
	if out, err := g.command(nil, "prices", "set", "--provider", "p", "--currency", "EUR", "--input", "2.50", "--cached-input", "1.25", "--output", "10"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	g.eventually("calls with a price", waitLong, func() bool { return g.scalar("select count(*) from calls where cost > 0") > 50 })
	close(stop)
	complete, _ := wait()
	g.eventually("all records", waitLong, func() bool { return g.metric("logos_calls_in_flight") == 0 })
	g.expectRecorded(complete)
	g.compareBooks(p)
	day := time.Now().UTC()
	during := []string{"--from", day.AddDate(0, 0, -1).Format(time.DateOnly), "--to", day.AddDate(0, 0, 2).Format(time.DateOnly)}
	unknown := g.scalar("select count(*) from calls where cost is null")
	if out, err := g.ledger(append([]string{"rerate", "--reason", "the price came late", "--yes"}, during...)...); err != nil || unknown == 0 || !strings.Contains(out, "that had no price have one") {
		t.Errorf("of %d calls without a price it says %v: %s", unknown, err, out)
	}
	if out, err := g.ledger("verify"); err != nil || !strings.Contains(out, "The ledger adds up.") {
		t.Errorf("verify says %v: %s", err, out)
	}
	b := p.books()
	million := decimal.New(1, 6)
	want := decimal.NewFromInt(b.input - b.cached).Mul(decimal.RequireFromString("2.5")).Add(decimal.NewFromInt(b.cached).Mul(decimal.RequireFromString("1.25"))).
		Add(decimal.NewFromInt(b.output).Mul(decimal.NewFromInt(10))).Div(million)
	rows := g.adminCall(g.root, "GET", "/admin/v1/usage:summarize?group_by=provider_id&filter=provider%20=%20%22p%22", nil)["rows"].([]any)
	if len(rows) != 1 || rows[0].(object)["unpriced_calls"] != "0" {
		t.Fatalf("the summary is %v", rows)
	}
	cost := rows[0].(object)["costs"].([]any)[0].(object)
	if got := decimal.RequireFromString(cost["amount"].(string)); !got.Equal(want) || cost["currency"] != "EUR" {
		t.Errorf("the bill is %v %v, want %s", got, cost["currency"], want)
	}
	if out, err := g.command(nil, "usage", "--by", "model"); err != nil || !strings.Contains(out, want.String()+" EUR") {
		t.Errorf("logos usage says %v, without %s EUR:\n%s", err, want, out)
	}
}
