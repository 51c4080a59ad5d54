package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// addBudget stores a budget of requests and returns its id.
func addBudget(t *testing.T, conn *pgx.Conn, limit int64) logos.BudgetID {
	t.Helper()
	return logos.BudgetID(one[int64](t, conn, `insert into budgets (name, unit, amount, "window", hard, revision)
		values ('budget ' || gen_random_uuid(), 'requests', $1, 'total', true, 0) returning id`, limit))
}

func requestBudget(id logos.BudgetID, limit int64) *budget.Index {
	return budget.NewIndex([]*logos.Budget{{ID: id, Name: "calls", Unit: logos.UnitRequests, Limit: decimal.NewFromInt(limit), Window: logos.WindowTotal, Hard: true}})
}

// counters leases as a new process of a gateway, until the test ends.
func counters(t *testing.T, s *store.Store, gateway string, opt budget.Options) *budget.Counters {
	t.Helper()
	epoch, err := s.StartGateway(t.Context(), gateway)
	if err != nil {
		t.Fatal(err)
	}
	if opt.AskWait == 0 {
		opt.AskWait = 20 * time.Second
	}
	c := budget.New(s, logos.Gateway{ID: gateway, Epoch: epoch}, opt, zap.NewNop(), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

var somewhere = []budget.Target{{Target: &logos.Target{Provider: &logos.Provider{ID: 1}}}}

// try reserves for a call, and returns what it holds.
func try(c *budget.Counters, x *budget.Index, id logos.CallID) (budget.Grant, bool) {
	g, short := c.Call(x, &budget.Caller{Project: 1}, time.Now()).Reserve(context.Background(), id, 0, somewhere, &budget.Size{})
	return g, short == nil
}

func TestThreeGatewaysShareExactlyOneBudget(t *testing.T) {
	t.Parallel()
	dsn, keys := pgtest.URL(t), pgtest.Key(t, store.NewMasterKeyText())
	stores := []*store.Store{pgtest.Open(t, dsn, keys), pgtest.Open(t, dsn, keys), pgtest.Open(t, dsn, keys)}
	conn := pgtest.Conn(t, dsn)
	const limit = 50
	id := addBudget(t, conn, limit)
	var admitted atomic.Int64
	var calls sync.WaitGroup
	for i, s := range stores {
		c := counters(t, s, fmt.Sprint("gateway ", i), budget.Options{})
		for n := range 70 {
			calls.Go(func() {
				if _, ok := try(c, requestBudget(id, limit), callID(100*i+n)); ok {
					admitted.Add(1)
				}
			})
		}
	}
	calls.Wait()
	if admitted.Load() != limit {
		t.Errorf("%d calls were admitted, want %d", admitted.Load(), limit)
	}
	if granted := one[int64](t, conn, "select sum(greatest(granted, settled))::bigint from budget_shares"); granted != limit {
		t.Errorf("%d of %d are granted", granted, limit)
	}
}

// settled records a call that holds reservations, and has used what it spent.
func settled(t *testing.T, s *store.Store, gateway string, id logos.CallID, spent ...logos.Spending) []logos.Share {
	t.Helper()
	c := &logos.Call{ID: id, Decision: logos.Decision{Start: 1795486584488422, Project: 1, APIKey: 1}, End: logos.EndOK, Spent: spent}
	shares, err := s.SettleCalls(t.Context(), gateway, logos.LogBatch{Calls: []*logos.Call{c, c}})
	if err != nil {
		t.Fatal(err)
	}
	return shares
}

func TestACallIsSettledOnce(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	conn := pgtest.Conn(t, dsn)
	counter := logos.CounterID{Budget: 7, Key: "project:1", Start: 1_760_000_000}
	spend := logos.Spending{Counter: counter, End: 1_760_086_400, Amount: 30, Overrun: 5}
	for range 2 {
		settled(t, s, "g", callID(1), spend)
	}
	shares := settled(t, s, "g", callID(2), spend)
	if len(shares) != 1 || shares[0].Counter != counter || shares[0].Settled != 60 || shares[0].Version != 2 {
		t.Errorf("the share is %+v", shares)
	}
	if got := one[string](t, conn, "select concat_ws(' ', settled, overrun, overruns, extract(epoch from window_end)::bigint) from budget_shares"); got != "60 10 2 1760086400" {
		t.Errorf("stored is %s", got)
	}
}

// TestASettlementWhoseAnswerWasLostIsToldAgain: the gateway frees what the call has held as it hears of the record, so
// it must hear of the sum.
func TestASettlementWhoseAnswerWasLostIsToldAgain(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	counter := logos.CounterID{Budget: 7, Key: "project:1"}
	first := settled(t, s, "g", callID(1), logos.Spending{Counter: counter, Amount: 30})
	again := settled(t, s, "g", callID(1), logos.Spending{Counter: counter, Amount: 30})
	if len(first) != 1 || !slices.Equal(first, again) || first[0].Settled != 30 {
		t.Errorf("first it is %+v, then %+v", first, again)
	}
	if got := one[string](t, pgtest.Conn(t, dsn), "select concat_ws(' ', settled, version, overruns) from budget_shares"); got != "30 1 0" {
		t.Errorf("stored is %s", got)
	}
}

func TestNoSumIsTooLargeToBeStored(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	exec(t, pgtest.Conn(t, dsn), `insert into budgets (id, name, unit, amount, "window", hard, revision) overriding system value values (0, 'x', 'requests', 10, 'total', true, 0)`)
	const huge = 1<<63 - 1
	for n := range 4 {
		settled(t, s, fmt.Sprint("g", n), callID(n), logos.Spending{Amount: huge, Overrun: huge}, logos.Spending{Amount: huge})
	}
	shares, err := s.Lease(t.Context(), logos.Gateway{ID: "g", Lease: time.Minute}, []logos.ShareRequest{{Need: 1}})
	if err != nil || shares[0].Granted != 0 {
		t.Errorf("the sum of all gateways opens the budget again: %+v (%v)", shares, err)
	}
}

// TestADeadGatewaysReservationsReturn: what a gateway was granted of which nothing is heard any more goes to
// others once no call of it can be open, and not before.
func TestADeadGatewaysReservationsReturn(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	conn := pgtest.Conn(t, dsn)
	id := addBudget(t, conn, 10)
	need := func(gateway string, n, reserved int64) int64 {
		t.Helper()
		shares, err := s.Lease(t.Context(), logos.Gateway{ID: gateway, Epoch: 1, Lease: time.Minute, Hold: time.Hour, Steady: true},
			[]logos.ShareRequest{{Counter: logos.CounterID{Budget: id}, Need: n, Reserved: reserved}})
		if err != nil {
			t.Fatal(err)
		}
		return shares[0].Granted
	}
	if got := need("dead", 8, 0); got != 8 {
		t.Fatalf("granted are %d, want 8", got)
	}
	settled(t, s, "dead", callID(1), logos.Spending{Counter: logos.CounterID{Budget: id}, Amount: 3})
	if got := need("alive", 10, 0); got != 2 {
		t.Errorf("granted are %d beside what another one holds, want 2", got)
	}
	exec(t, conn, "update budget_shares set leased_until = now() - interval '1 s' where gateway = 'dead'")
	if got := need("alive", 10, 0); got != 2 {
		t.Errorf("granted are %d while calls of the dead one may be open, want 2", got)
	}
	exec(t, conn, "update budget_shares set held_until = now() - interval '1 s' where gateway = 'dead'")
	if got := need("alive", 10, 0); got != 7 {
		t.Errorf("granted are %d, want all but the 3 that were spent", got)
	}
	if got := need("dead", 8, 5); got != 3 {
		t.Errorf("back again, it has %d, want the 3 that it spent", got)
	}
}

// TestAnEarlierProcessLeasesNothing, as soon as a later one has started, whatever that has leased.
func TestAnEarlierProcessLeasesNothing(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	id := addBudget(t, pgtest.Conn(t, dsn), 10)
	start := func() (lease func() error) {
		epoch, err := s.StartGateway(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		return func() error {
			_, err := s.Lease(t.Context(), logos.Gateway{ID: "g", Epoch: epoch, Lease: time.Minute}, []logos.ShareRequest{{Counter: logos.CounterID{Budget: id}, Need: 1}})
			return err
		}
	}
	earlier := start()
	if err := earlier(); err != nil {
		t.Fatal(err)
	}
	later := start()
	if err := earlier(); logos.KindOf(err) != logos.Conflict {
		t.Errorf("the earlier one leases: %v", err)
	}
	if err := later(); err != nil {
		t.Errorf("the later one: %v", err)
	}
}

// TestARestartedGatewayGoesOnWithItsReservations: its successor knows what open calls hold, and nothing more
// than the limit is admitted in all.
func TestARestartedGatewayGoesOnWithItsReservations(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	id := addBudget(t, pgtest.Conn(t, dsn), 10)
	x := requestBudget(id, 10)
	killed := counters(t, s, "g", budget.Options{})
	open := make(map[logos.CallID]budget.Grant)
	for n := range 6 {
		g, ok := try(killed, x, callID(n))
		if !ok {
			t.Fatalf("call %d is refused", n)
		}
		open[callID(n)] = g
	}
	c := counters(t, s, "g", budget.Options{})
	for call, g := range open {
		c.Restore(call, g.Reservations)
	}
	admitted := 0
	for n := range 10 {
		if _, ok := try(c, x, callID(100+n)); ok {
			admitted++
		}
	}
	if admitted != 4 {
		t.Errorf("%d more were admitted, want 4", admitted)
	}
	for call, g := range open { // they end, having used nothing
		c.Settled(settled(t, s, "g", call, logos.Spending{Counter: g.Reservations[0].Counter()}))
		c.Release(call)
	}
	for n := range 10 {
		if _, ok := try(c, x, callID(200+n)); ok {
			admitted++
		}
	}
	if admitted != 10 {
		t.Errorf("%d were admitted after all ended, want 10", admitted)
	}
}

// TestWithoutADatabaseALeaseIsSpentAndNoMore ends all connections to the database while calls go on.
func TestWithoutADatabaseALeaseIsSpentAndNoMore(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	conn := pgtest.Conn(t, dsn)
	id := addBudget(t, conn, 1000)
	c := counters(t, s, "g", budget.Options{AskWait: 100 * time.Millisecond})
	x := requestBudget(id, 1000)
	spent := int64(0)
	for n := range 20 {
		if _, ok := try(c, x, callID(n)); !ok {
			t.Fatal("a call is refused with most of the budget left")
		}
		spent++
	}
	s.Close()
	granted := one[int64](t, conn, "select granted from budget_shares")
	for n := 20; ; n++ {
		if _, ok := try(c, x, callID(n)); !ok {
			break
		}
		spent++
	}
	if spent != granted || granted <= 20 {
		t.Errorf("%d were granted and %d spent", granted, spent)
	}
}

func TestALowerLimitCountsAtOnce(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	conn := pgtest.Conn(t, dsn)
	id := addBudget(t, conn, 100)
	lease := func(r logos.ShareRequest) logos.Share {
		t.Helper()
		r.Counter.Budget = id
		shares, err := s.Lease(t.Context(), logos.Gateway{ID: "g", Epoch: 1, Lease: time.Minute, Hold: time.Hour}, []logos.ShareRequest{r})
		if err != nil {
			t.Fatal(err)
		}
		return shares[0]
	}
	lease(logos.ShareRequest{Need: 40})
	exec(t, conn, "update budgets set amount = 30")
	if got := lease(logos.ShareRequest{Held: 40, Reserved: 10}); got.Granted != 30 || got.Free != 0 {
		t.Errorf("the share is %+v", got)
	}
	if got := lease(logos.ShareRequest{Held: 30, Reserved: 30, Need: 5}); got.Granted != 30 {
		t.Errorf("the share is %+v", got)
	}
	exec(t, conn, "update budgets set deleted_at = now()")
	if got := lease(logos.ShareRequest{Held: 30, Reserved: 8}); got.Granted != 8 {
		t.Errorf("the share of a deleted budget is %+v, want what open calls hold", got)
	}
}

func TestErasureReachesCounters(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	conn := pgtest.Conn(t, dsn)
	c := fill(t, s)
	config, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n, user := range []string{"ann", "bob"} {
		key := "end_user:" + config.Hasher.EndUser(c.project, user)
		settled(t, s, "g", callID(n), logos.Spending{Counter: logos.CounterID{Budget: 1, Key: key}, Amount: 1})
	}
	if _, err := s.EraseEndUser(t.Context(), store.Actor{}, c.project, "ann"); err != nil {
		t.Fatal(err)
	}
	if left := one[int](t, conn, "select (select count(*) from budget_counters)::int * 10 + (select count(*) from budget_shares)::int"); left != 11 {
		t.Errorf("counters and shares that are left: %d, want one of each", left)
	}
}

func TestAThresholdIsToldByOne(t *testing.T) {
	t.Parallel()
	s, _ := pgtest.Store(t)
	id := logos.CounterID{Budget: 1, Key: "team:2", Start: 1_760_000_000}
	for _, gateway := range []string{"a", "b"} {
		settled(t, s, gateway, callID(len(gateway)+int(gateway[0])), logos.Spending{Counter: id, Amount: 20})
	}
	sums, err := s.CounterSums(t.Context(), []logos.CounterID{id, {Budget: 9}})
	if err != nil || len(sums) != 1 || sums[0] != (logos.CounterSum{Counter: id, Settled: 40}) {
		t.Errorf("the sums are %+v (%v)", sums, err)
	}
	for i, want := range []bool{true, false, true, false} {
		if first, err := s.TellThreshold(t.Context(), id, []int{50, 50, 80, 50}[i]); first != want || err != nil {
			t.Errorf("try %d tells: %t (%v)", i, first, err)
		}
	}
}

func TestABudgetThatCanNotBeReadAllowsNothing(t *testing.T) {
	t.Parallel()
	s, dsn := pgtest.Store(t)
	conn := pgtest.Conn(t, dsn)
	id := addBudget(t, conn, 10)
	exec(t, conn, "update budgets set time_zone = 'Mars/Olympus' where id = $1", int64(id))
	config, err := s.Load(t.Context())
	if err != nil || len(config.Budgets()) != 1 {
		t.Fatalf("there are %v (%v)", config.Budgets(), err)
	}
	if b := config.Budgets()[0]; !b.Hard || !b.Limit.IsZero() || b.Unit != logos.UnitRequests {
		t.Errorf("the budget is %+v", b)
	}
}
