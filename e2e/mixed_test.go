package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"
)

var mixedSeed = flag.Uint64("seed", 0, "of the mixed calls; 0: another one each time")

const (
	mixedCalls   = 20_000
	mixedWorkers = 48
	mixedRate    = 320 // a second; most of the time that the test takes is that of the faults
	outageFor    = 20 * time.Second
)

// A mixedPrice is for a million tokens, or for one request.
type mixedPrice struct {
	provider, meter, amount string
	from, to                int64 // tokens of prompt
}

// mixedPrices are those of two providers; the third has none. What has no price of its own here costs as the documentation
// says: reasoning as output, and at the first provider what is read from a cache as input.
var mixedPrices = []mixedPrice{
	{"flaky", "input", "2.5", 0, 300}, {"flaky", "input", "3.125", 301, 0}, {"flaky", "output", "10", 0, 0},
	{"flaky", "cache_write", "4.6875", 0, 0}, {"flaky", "cache_write_1h", "7.5", 0, 0},
	{"steady", "input", "0.0000137", 0, 0}, {"steady", "cached_input", "0.00000137", 0, 0}, {"steady", "output", "11.1111111", 0, 0}, {"steady", "reasoning", "0", 0, 0},
	{"steady", "cache_write", "1", 0, 0}, {"steady", "cache_write_1h", "2", 0, 0}, {"steady", "request", "0.000123", 0, 0},
}

// mixedOrder are the providers of each model, the first one first.
var mixedOrder = map[string][]string{"m": {"flaky", "steady"}, "w": {"steady", "flaky"}, "free": {"free"}}

// TestTwentyThousandMixedCallsAreSettledOnceAsTheProvidersBooksSay makes calls of every sort through two gateways on one
// database, while each process is killed once and the database is away for 20 s. Then each call has one outcome, tokens
// and money are those of the providers' books and prices, estimates are marked and near to the books, and budgets
// have counted what the ledger says.
func TestTwentyThousandMixedCallsAreSettledOnceAsTheProvidersBooksSay(t *testing.T) {
	seed := *mixedSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", seed)
	book := newMixedBook(t, seed)
	gateways := startMixed(t, book)
	budgets := mixedBudgets(gateways)
	load := newMixedLoad(book, gateways)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		load.run(mixedCalls, mixedWorkers, mixedRate)
	}()
	t.Cleanup(func() { <-ended })
	begin := time.Now()
	had := mixedFaults(load)
	<-ended
	t.Logf("%d calls in %v", mixedCalls, time.Since(begin).Round(time.Second))
	for _, g := range gateways {
		g.waitReady()
		g.eventually("the end of all calls", time.Minute, func() bool { return book.idle() && g.metric("logos_calls_in_flight") == 0 })
	}
	a := &audit{t: t, book: book, outcomes: load.outcomes, troubles: had, records: gateways[0].mixedRecords()}
	a.run()
	a.budgets(gateways[0], budgets)
	if out, err := gateways[0].ledger("verify"); err != nil {
		t.Errorf("logos ledger verify: %v: %s", err, out)
	}
	t.Logf("\n%s", a.table())
}

// startMixed starts two gateways on the first one's Postgres, with providers, models and prices.
func startMixed(t *testing.T, book *mixedBook) []*gateway {
	t.Helper()
	env := map[string]string{"LOGOS_MASTER_KEY": testMasterKey, "LOGOS_FIRST_BYTE_TIMEOUT": "5s", "LOGOS_IDLE_TIMEOUT": "12s", "LOGOS_LOG_ROTATE_BYTES": "1048576"}
	first := start(t, env)
	targets := make(map[string]target)
	for _, name := range []string{"flaky", "steady", "free"} {
		p := book.provider(name, func(model string) bool { return mixedOrder[model][0] == name })
		targets[name] = p.openai(name)
	}
	for _, model := range []string{"m", "w", "free"} {
		var at []target
		for _, name := range mixedOrder[model] {
			at = append(at, targets[name])
		}
		first.connect(model, "", at...)
	}
	for _, p := range mixedPrices {
		first.administer("POST", "prices", object{"provider": p.provider, "meter": p.meter, "amount": p.amount, "currency": "EUR", "context_from": p.from, "context_to": p.to})
	}
	env["DATABASE_URL"] = first.db().Config().ConnString()
	second := start(t, env)
	second.root = first.root
	gateways := []*gateway{first, second}
	for _, g := range gateways {
		g.waitRevision()
	}
	return gateways
}

// mixedBudgets makes budgets that are not reached, and returns their ids.
func mixedBudgets(gateways []*gateway) map[string]string {
	g := gateways[0]
	return map[string]string{
		"money":    g.budget(gateways, object{"name": "money", "unit": "money", "currency": "EUR", "amount": "10000000", "selector": object{"providers": []string{"flaky", "steady"}}}),
		"requests": g.budget(gateways, object{"name": "requests", "unit": "requests", "amount": "10000000", "window": "year"}),
		"tokens":   g.budget(gateways, object{"name": "tokens", "unit": "tokens", "amount": "1000000000", "soft": true, "thresholds": []int{100}}),
	}
}

// A killing is the end of an Envoy.
type killing struct {
	gateway *gateway
	at      time.Time
}

// troubles are what happened while the load went on.
type troubles struct {
	killed               []killing
	outage, outageIsOver time.Time
}

// mixedFaults kills each process once, and has the database away for a while, as the load goes on. Whenever it does,
// some streams are under way.
func mixedFaults(l *mixedLoad) (had troubles) {
	first, second := l.gateways[0], l.gateways[1]
	envoy := func(g *gateway, kill func()) func() {
		return func() {
			had.killed = append(had.killed, killing{gateway: g, at: time.Now()})
			kill()
		}
	}
	faults := []struct {
		after float64 // of all calls
		what  string
		do    func()
	}{
		{0.06, "serve of the first", func() { first.killAndWait("serve") }},
		{0.18, "Envoy of the first", envoy(first, func() { first.killAndWait("envoy") })},
		{0.30, "Postgres", func() { first.killAndWait("postgres") }},
		{0.42, "serve of the second", func() { second.killAndWait("serve") }},
		{0.52, "Envoy of the second", envoy(second, func() { second.killAndWait("envoy") })},
		{0.60, "up of the second, and its Envoy with it", envoy(second, second.killUp)},
		{0.68, "an outage of Postgres", func() {
			had.outage = time.Now()
			outage(first)
			had.outageIsOver = time.Now()
		}},
	}
	for i, f := range faults {
		first.eventually("so many calls", 2*time.Minute, func() bool { return l.done.Load() >= int64(f.after*mixedCalls) })
		first.eventually("streams under way", time.Minute, func() bool { return l.book.holds() >= 4 })
		begin, held, done := time.Now(), l.book.holds(), l.done.Load()
		f.do()
		l.book.t.Logf("%s: with %d streams held; over after %v and %d calls", f.what, held, time.Since(begin).Round(10*time.Millisecond), l.done.Load()-done)
		l.book.release(i == len(faults)-1)
	}
	return had
}

// killUp kills the supervisor, whose Envoy ends with it, and starts another one, which takes over the rest.
func (g *gateway) killUp() {
	g.t.Helper()
	left := g.pids()
	if err := g.cmd.Process.Kill(); err != nil {
		g.t.Fatal(err)
	}
	<-g.exited
	g.up()
	g.eventually("new children", waitLong, func() bool {
		now := g.pids()
		return now["envoy"] != 0 && now["envoy"] != left["envoy"] && now["serve"] != 0 && now["serve"] != left["serve"]
	})
	g.waitReady()
}

// outage ends the Postgres of a gateway for a while. Its supervisor is stopped meanwhile, or would start it again.
func outage(g *gateway) {
	g.t.Helper()
	conn := g.db()
	url, postgres, up := conn.Config().ConnString(), g.pid("postgres"), g.cmd.Process.Pid
	conn.Close(context.Background())
	for _, s := range []struct {
		pid    int
		signal syscall.Signal
	}{{up, syscall.SIGSTOP}, {postgres, syscall.SIGINT}} {
		if err := syscall.Kill(s.pid, s.signal); err != nil {
			g.t.Fatal(err)
		}
	}
	defer g.waitReady()
	defer syscall.Kill(up, syscall.SIGCONT)
	g.eventually("the end of Postgres", waitLong, func() bool { return !reachable(url) })
	<-time.After(outageFor)
	if reachable(url) {
		g.t.Error("Postgres was there again")
	}
}

func reachable(url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx) == nil
}

// cost is what a provider charges by its price list.
func mixedCost(provider string, used map[string]int64) decimal.Decimal {
	context := used["input"] + used["cached_input"] + used["cache_write"] + used["cache_write_1h"]
	price := func(meters ...string) decimal.Decimal {
		for _, meter := range meters {
			for _, p := range mixedPrices {
				if p.provider == provider && p.meter == meter && context >= p.from && (p.to == 0 || context <= p.to) {
					return decimal.RequireFromString(p.amount)
				}
			}
		}
		panic(fmt.Sprint("no price of ", meters))
	}
	million := decimal.New(1, 6)
	sum := decimal.Zero
	for meter, instead := range map[string]string{"input": "input", "cached_input": "input", "cache_write": "cache_write", "cache_write_1h": "cache_write_1h", "output": "output", "reasoning": "output"} {
		sum = sum.Add(price(meter, instead).Mul(decimal.NewFromInt(used[meter])).DivRound(million, 30))
	}
	if provider == "steady" {
		sum = sum.Add(price("request"))
	}
	return sum
}
