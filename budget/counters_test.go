package budget

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func number(s string) decimal.Decimal { return decimal.RequireFromString(s) }

// running starts counters that lease, until the test ends.
func running(t testing.TB, store logos.Leases, id string, now func() time.Time) *Counters {
	t.Helper()
	c := New(store, logos.Gateway{ID: id, Epoch: 1}, Options{Now: now, AskWait: 10 * time.Second}, zap.NewNop(), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// euros is a target that charges so much for each million tokens of output, and nothing for input.
func euros(t testing.TB, output string) Target {
	t.Helper()
	rates, err := policy.NewRates("EUR", decimal.Zero, number(output).Shift(-6), decimal.Zero)
	if err != nil {
		t.Fatal(err)
	}
	return Target{Target: &logos.Target{Provider: &logos.Provider{ID: 1}, Model: &logos.Model{ID: 1}, Deployment: &logos.Deployment{ID: 1, Model: 1}}, Rates: rates}
}

func reserve(c *Counters, x *Index, id string, size *Size, targets ...Target) (Grant, *Shortage) {
	call := c.Call(x, &Caller{Project: 1}, c.opt.Now())
	return call.Reserve(context.Background(), logos.CallID(id), 0, targets, size)
}

func TestExactlyTheLimitPasses(t *testing.T) {
	t.Parallel()
	budgets := map[string]*logos.Budget{
		"calls": {ID: 1, Unit: logos.UnitRequests, Limit: number("50"), Window: logos.WindowTotal, Hard: true},
		"price": {ID: 1, Unit: logos.UnitMoney, Currency: "EUR", Limit: number("0.0375"), Window: logos.WindowMonth, Hard: true}, // 50 times 100 tokens of 7.50 a million
	}
	for name, b := range budgets {
		for _, replicas := range []int{1, 3} {
			t.Run(fmt.Sprint(name, " on ", replicas), func(t *testing.T) {
				t.Parallel()
				store := newLedger(&clock{at: noon}, b.Unit.Amount(b.Limit))
				index, target := NewIndex([]*logos.Budget{b}), euros(t, "7.5")
				var counters []*Counters
				for i := range replicas {
					counters = append(counters, running(t, store, fmt.Sprint(i), store.clock.now))
				}
				var admitted atomic.Int64
				var calls sync.WaitGroup
				for i := range 200 {
					calls.Go(func() {
						if _, short := reserve(counters[i%replicas], index, fmt.Sprint(i), &Size{Output: 100}, target); short == nil {
							admitted.Add(1)
						}
					})
				}
				calls.Wait()
				if admitted.Load() != 50 {
					t.Errorf("%d calls were admitted, want 50", admitted.Load())
				}
			})
		}
	}
}

func TestAllOrNothing(t *testing.T) {
	t.Parallel()
	store := newLedger(&clock{at: noon}, 0)
	store.limit = func(id logos.BudgetID) int64 { return map[logos.BudgetID]int64{1: 1000, 2: 2}[id] }
	index := NewIndex([]*logos.Budget{tokenBudget(1000), {ID: 2, Name: "calls", Unit: logos.UnitRequests, Limit: number("2"), Window: logos.WindowDay, Hard: true}})
	c := running(t, store, "g", store.clock.now)
	for i, want := range []bool{true, true, false, false} {
		if _, short := reserve(c, index, fmt.Sprint(i), &Size{Input: 10, NoOutput: true}, euros(t, "1")); (short == nil) != want {
			t.Fatalf("call %d: %+v", i, short)
		}
	}
	if x := c.counters[logos.CounterID{Budget: 1}]; x.reserved != 20 {
		t.Errorf("refused calls hold tokens: %d are reserved, want 20", x.reserved)
	}
	c.Release("0", "never", "0")
	if _, short := reserve(c, index, "again", &Size{Input: 10, NoOutput: true}, euros(t, "1")); short != nil {
		t.Errorf("what was released can't be had: %+v", short)
	}
}

// TestAnOutageSpendsTheLeaseAndNoMore: without a database, calls go on with what was leased, for as long as
// the lease lasts.
func TestAnOutageSpendsTheLeaseAndNoMore(t *testing.T) {
	t.Parallel()
	clock := &clock{at: noon}
	store := newLedger(clock, 1000)
	r := &replica{t: t, id: "g", store: store, clock: clock, index: NewIndex([]*logos.Budget{tokenBudget(1000)})}
	r.start()
	for i := range 20 { // demand of ten tokens a second
		if !r.try(fmt.Sprint(i), 10) {
			t.Fatal("a call is refused with most of the budget left")
		}
		clock.advance(time.Second)
		r.lease(t.Context(), true)
	}
	store.away = true
	_, granted := store.total()
	if granted <= 200 || granted > 900 {
		t.Fatalf("of 1000 there are %d granted after 200 were used", granted)
	}
	spent := int64(200)
	for i := 0; r.try(fmt.Sprint("outage ", i), 10); i++ {
		spent += 10
	}
	if spent > granted || granted-spent >= 10 {
		t.Errorf("%d were granted and %d spent", granted, spent)
	}
	r.end(0, 1)
	r.open[0].deadline = clock.now()
	clock.advance(81 * time.Second) // the lease is over
	if r.try("late", 1) {
		t.Error("a call is admitted after the lease")
	}
	store.away = false
	if !r.try("back", 1) {
		t.Error("no call is admitted though the database is back")
	}
}

// TestAnOutageOfAMinuteIsCovered, at whatever moment between two renewals of the lease it begins.
func TestAnOutageOfAMinuteIsCovered(t *testing.T) {
	t.Parallel()
	for phase := range 25 {
		clock := &clock{at: noon}
		store := newLedger(clock, 1_000_000)
		r := &replica{t: t, id: "g", store: store, clock: clock, index: NewIndex([]*logos.Budget{tokenBudget(1_000_000)})}
		r.start()
		for i := range 60 + phase {
			r.try(fmt.Sprint(i), 10)
			clock.advance(time.Second)
			r.lease(t.Context(), true)
		}
		store.away = true
		for i := range 60 {
			if !r.try(fmt.Sprint("outage ", i), 10) {
				t.Fatalf("%d s after the demand began, an outage is covered for %d s", 60+phase, i)
			}
			clock.advance(time.Second)
			r.lease(t.Context(), true)
		}
	}
}

// TestARefusalInAnOutageSaysSo: nobody knows what is left, so the budget is not to blame.
func TestARefusalInAnOutageSaysSo(t *testing.T) {
	t.Parallel()
	store := newLedger(&clock{at: noon}, 100)
	store.away = true
	c, index := running(t, store, "g", store.clock.now), NewIndex([]*logos.Budget{tokenBudget(100)})
	_, short := reserve(c, index, "1", &Size{Input: 10, NoOutput: true}, euros(t, "1"))
	if short == nil {
		t.Fatal("a call is admitted without a share")
	}
	if e := short.Error(); e.Kind != logos.Unavailable || e.Code != "budget_unavailable" || e.RetryAfter != 0 {
		t.Errorf("the refusal is %+v", e)
	}
}

// TestALongOutageFreesNothing: when the database is back, others have not settled yet what they spent of their leases
// before it went, and get a minute for it. What is not heard of then is free again.
func TestALongOutageFreesNothing(t *testing.T) {
	t.Parallel()
	clock := &clock{at: noon}
	store := newLedger(clock, 100)
	index := NewIndex([]*logos.Budget{tokenBudget(100)})
	a, b := &replica{t: t, id: "a", store: store, clock: clock, index: index}, &replica{t: t, id: "b", store: store, clock: clock, index: index}
	a.start()
	b.start()
	if !a.try("1", 60) {
		t.Fatal("a call is refused with all of the budget left")
	}
	pass := func(d time.Duration) {
		for end := clock.now().Add(d); clock.now().Before(end); clock.advance(10 * time.Second) {
			b.lease(t.Context(), true)
		}
	}
	pass(2 * time.Minute)
	store.away = true
	pass(a.gateway.Hold + time.Minute)
	store.away = false
	if b.try("2", 60) {
		t.Fatal("what one gateway has spent and not settled is granted to another one")
	}
	pass(settleGrace / 2)
	if b.try("3", 60) {
		t.Fatal("a gateway gets no time to settle after an outage")
	}
	pass(settleGrace)
	if !b.try("4", 60) {
		t.Error("what nobody settles is never free again")
	}
}

// TestWhatARefusedCallAskedForReturnsAtOnce: all that is left is too little for it, and enough for calls elsewhere.
func TestWhatARefusedCallAskedForReturnsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newLedger(&clock{at: noon}, 100)
		index := NewIndex([]*logos.Budget{tokenBudget(100)})
		a, b := running(t, store, "a", store.clock.now), running(t, store, "b", store.clock.now)
		for i, size := range []int64{60, 1000} { // more than is left, and more than there is
			if _, short := reserve(a, index, fmt.Sprint("large ", i), &Size{Input: 60, NoOutput: true}, euros(t, "1")); (short == nil) != (i == 0) {
				t.Fatalf("a call for 60 of 100: %v", short)
			}
			if _, short := reserve(a, index, "larger", &Size{Input: size, NoOutput: true}, euros(t, "1")); short == nil {
				t.Fatalf("a call for %d of 40 is admitted", size)
			}
			synctest.Wait()
			if _, short := reserve(b, index, fmt.Sprint("small ", i), &Size{Input: 10, NoOutput: true}, euros(t, "1")); short != nil {
				t.Fatalf("a call for 10 of 40 is refused elsewhere: %v", short.Error())
			}
			store.clock.advance(dryFor)
		}
	})
}

func TestIdleSharesReturn(t *testing.T) {
	t.Parallel()
	clock := &clock{at: noon}
	store := newLedger(clock, 1000)
	index := NewIndex([]*logos.Budget{tokenBudget(1000)})
	a, b := &replica{t: t, id: "a", store: store, clock: clock, index: index}, &replica{t: t, id: "b", store: store, clock: clock, index: index}
	a.start()
	b.start()
	for i := range 30 {
		a.try(fmt.Sprint(i), 10)
		clock.advance(time.Second)
		a.lease(t.Context(), true)
	}
	if b.try("all that is not used", 700) {
		t.Fatal("what one gateway was granted ahead of demand is granted to another one")
	}
	clock.advance(idleAfter + time.Second)
	a.lease(t.Context(), true)
	clock.advance(dryFor)
	if !b.try("all that is not used", 700) {
		t.Error("an idle gateway keeps what it does not need")
	}
}

func TestAStaleProcessSpendsNothing(t *testing.T) {
	t.Parallel()
	clock := &clock{at: noon}
	store := newLedger(clock, 10)
	index := NewIndex([]*logos.Budget{tokenBudget(10)})
	r := &replica{t: t, id: "g", store: store, clock: clock, index: index}
	r.start()
	stale := &replica{t: t, id: "g", store: store, clock: clock, index: index, Counters: r.Counters}
	r.start()
	if !r.try("1", 1) {
		t.Fatal("the later process is refused")
	}
	if stale.try("2", 1) {
		t.Error("the stale process spends")
	}
}

func TestANewWindowIsANewCounter(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	clock := &clock{at: time.Date(2026, 10, 25, 21, 30, 0, 0, time.UTC)} // half past ten of a day of 25 hours
	store := newLedger(clock, 1)
	index := NewIndex([]*logos.Budget{{ID: 1, Name: "daily", Unit: logos.UnitRequests, Limit: number("1"), Window: logos.WindowDay, Zone: berlin, Hard: true}})
	r := &replica{t: t, id: "g", store: store, clock: clock, index: index}
	r.start()
	if !r.try("1", 1) {
		t.Fatal("the first call of the day is refused")
	}
	clock.advance(89 * time.Minute)
	if r.try("2", 1) {
		t.Error("a second call is admitted a minute before midnight")
	}
	clock.advance(time.Minute)
	if !r.try("3", 1) {
		t.Error("the first call of the next day is refused")
	}
}

func TestEachHasACounterOfItsOwn(t *testing.T) {
	t.Parallel()
	store := newLedger(&clock{at: noon}, 1)
	index := NewIndex([]*logos.Budget{{ID: 1, Unit: logos.UnitRequests, Limit: number("1"), Window: logos.WindowDay, Each: logos.EachEndUser, Hard: true}})
	c := running(t, store, "g", store.clock.now)
	got := make(map[string]int)
	for i := range 60 {
		user := []string{"ann", "bob", ""}[i%3]
		call := c.Call(index, &Caller{EndUser: user}, noon)
		if _, short := call.Reserve(t.Context(), logos.CallID(fmt.Sprint(i)), 0, []Target{euros(t, "1")}, &Size{}); short == nil {
			got[user]++
		}
	}
	if got["ann"] != 1 || got["bob"] != 1 || got[""] != 1 {
		t.Errorf("admitted were %v, want one call of each, and one of all who name nobody", got)
	}
}

func TestCountersAreBounded(t *testing.T) {
	t.Parallel()
	store := newLedger(&clock{at: noon}, 5)
	c := running(t, store, "g", store.clock.now)
	c.opt.MaxCounters = 3
	index := NewIndex([]*logos.Budget{{ID: 1, Unit: logos.UnitRequests, Limit: number("5"), Window: logos.WindowDay, Each: logos.EachEndUser, Hard: true}})
	for i := range 5 {
		call := c.Call(index, &Caller{EndUser: fmt.Sprint(i)}, noon)
		if _, short := call.Reserve(t.Context(), logos.CallID(fmt.Sprint(i)), 0, []Target{euros(t, "1")}, &Size{}); (short == nil) != (i < 3) {
			t.Errorf("end user %d: %v", i, short)
		}
	}
	if len(c.counters) != 3 {
		t.Errorf("there are %d counters, want 3", len(c.counters))
	}
}

// TestClampsToWhatIsLeft: with 10 EUR a million tokens, 0.005 EUR are 500 tokens.
func TestClampsToWhatIsLeft(t *testing.T) {
	t.Parallel()
	money := &logos.Budget{ID: 1, Name: "money", Unit: logos.UnitMoney, Currency: "EUR", Limit: number("0.005"), Window: logos.WindowTotal, Hard: true, ClampMaxTokens: true}
	store := newLedger(&clock{at: noon}, money.Unit.Amount(money.Limit))
	c, index := running(t, store, "g", store.clock.now), NewIndex([]*logos.Budget{money})
	for i, want := range []struct {
		asked, answers, limit int64 // limit 0: as asked
		refused               bool
	}{
		{asked: 100}, {asked: 1000, answers: 2, limit: 200}, {asked: 16, refused: true},
	} {
		g, short := reserve(c, index, fmt.Sprint(i), &Size{Output: want.asked, Answers: want.answers}, euros(t, "10"))
		if (short != nil) != want.refused || g.MaxTokens != want.limit {
			t.Errorf("call %d: limit %d (%v), want %+v", i, g.MaxTokens, short, want)
		}
	}
}

func TestNobodySpendsWhatHasNoPrice(t *testing.T) {
	t.Parallel()
	money := &logos.Budget{ID: 1, Name: "money", Unit: logos.UnitMoney, Currency: "EUR", Limit: number("5"), Window: logos.WindowTotal, Hard: true}
	store := newLedger(&clock{at: noon}, money.Unit.Amount(money.Limit))
	c := running(t, store, "g", store.clock.now)
	priced := euros(t, "10")
	unpriced := Target{Target: priced.Target}
	dollars, err := policy.NewRates("USD", decimal.Zero, decimal.Zero, decimal.Zero)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*logos.Budget{money, {ID: 2, Unit: logos.UnitMoney, Currency: "EUR", Limit: number("5"), Window: logos.WindowTotal}} {
		index := NewIndex([]*logos.Budget{b})
		for name, x := range map[string]struct {
			target Target
			size   Size
			priced bool
		}{
			"a price": {priced, Size{Output: 1}, true}, "none": {unpriced, Size{Output: 1}, false},
			"another currency": {Target{Target: priced.Target, Rates: dollars}, Size{Output: 1}, false}, "unread": {priced, Size{Unbounded: true}, false},
		} {
			excluded := c.Call(index, &Caller{}, noon).Excludes(&x.target, &x.size, 0)
			_, short := reserve(c, index, name+fmt.Sprint(b.ID), &x.size, x.target)
			if want := !x.priced && b.Hard; (short != nil) != want || (excluded != nil) != want {
				t.Errorf("%s, hard %t: %v, %v", name, b.Hard, excluded, short)
			}
		}
	}
}

func TestTargetsCountWhereTheSelectorSays(t *testing.T) {
	t.Parallel()
	store := newLedger(&clock{at: noon}, 100)
	c := running(t, store, "g", store.clock.now)
	at := func(provider logos.ProviderID, model logos.ModelID) Target {
		return Target{Target: &logos.Target{Provider: &logos.Provider{ID: provider}, Model: &logos.Model{ID: model}, Deployment: &logos.Deployment{Model: model}}}
	}
	index := NewIndex([]*logos.Budget{
		{ID: 1, Unit: logos.UnitRequests, Limit: number("100"), Window: logos.WindowTotal, Hard: true, Selector: logos.BudgetSelector{Providers: []logos.ProviderID{2}}},
		{ID: 2, Unit: logos.UnitRequests, Limit: number("100"), Window: logos.WindowTotal, Selector: logos.BudgetSelector{Models: []logos.ModelID{7}, Profiles: []logos.ProfileID{0}}},
		{ID: 3, Unit: logos.UnitRequests, Limit: number("100"), Window: logos.WindowTotal, Selector: logos.BudgetSelector{Models: []logos.ModelID{9}}},
	})
	g, short := reserve(c, index, "1", &Size{}, at(1, 7), at(2, 7), at(2, 8))
	if short != nil || len(g.Reservations) != 2 || g.Reservations[0].Targets != 0b110 || g.Reservations[1].Targets != 0b011 {
		t.Errorf("reserved is %+v (%v)", g.Reservations, short)
	}
}

func TestIndexFindsWhatSelectorsMatch(t *testing.T) {
	t.Parallel()
	selectors := []logos.BudgetSelector{
		{}, {Teams: []logos.TeamID{1, 2}}, {Projects: []logos.ProjectID{1}}, {APIKeys: []logos.APIKeyID{1, 1}}, {EndUsers: []string{"ann"}},
		{Teams: []logos.TeamID{1}, Projects: []logos.ProjectID{2}}, {APIKeys: []logos.APIKeyID{2}, EndUsers: []string{"bob"}},
		{Labels: map[string]string{"tier": "gold"}}, {Projects: []logos.ProjectID{2}, Labels: map[string]string{"tier": ""}},
	}
	var budgets []*logos.Budget
	for i, s := range selectors {
		budgets = append(budgets, &logos.Budget{ID: logos.BudgetID(i), Selector: s})
	}
	index := NewIndex(budgets)
	for n := range 3 * 3 * 3 * 3 * 3 {
		c := &Caller{Team: logos.TeamID(n % 3), Project: logos.ProjectID(n / 3 % 3), APIKey: logos.APIKeyID(n / 9 % 3), EndUser: []string{"", "ann", "bob"}[n/27%3],
			Labels: []map[string]string{nil, {"tier": "gold"}, {"tier": ""}}[n/81%3]}
		found := make(map[logos.BudgetID]int)
		for _, e := range index.match(c) {
			found[e.ID]++
		}
		for _, b := range budgets {
			want := 0
			if matches(&b.Selector, c) {
				want = 1
			}
			if found[b.ID] != want {
				t.Fatalf("%+v finds budget %d %d times, want %d", c, b.ID, found[b.ID], want)
			}
		}
	}
}

// TestANewCounterAsksAFewTimes: a window begins, and demand is not measured yet.
func TestANewCounterAsksAFewTimes(t *testing.T) {
	t.Parallel()
	store := newLedger(&clock{at: noon}, 1_000_000)
	r := &replica{t: t, id: "g", store: store, clock: store.clock, index: NewIndex([]*logos.Budget{tokenBudget(1_000_000)})}
	r.start()
	for i := range 1000 {
		if !r.try(fmt.Sprint(i), 10) {
			t.Fatal("a call is refused with most of the budget left")
		}
	}
	if store.leases > 12 {
		t.Errorf("1000 calls within a second ask %d times", store.leases)
	}
}

// TestSlackIsGrantedInWholeCalls: fragments at several gateways would be room that no call can use.
func TestSlackIsGrantedInWholeCalls(t *testing.T) {
	t.Parallel()
	for limit := range int64(300) {
		for live := range 4 {
			r := logos.ShareRequest{Reserved: 20, Held: 30, Need: 10, Slack: 200, Step: 10}
			granted := r.Grant(limit, logos.Share{Granted: 30}, 0, live)
			if whole := granted%10 == 0; granted > max(limit, 20) || limit >= 30 && !whole {
				t.Errorf("of %d, %d are granted", limit, granted)
			}
		}
	}
}

// TestWhatCallsWaitForIsNotGivenBack: between the answer of the database and the calls that have waited for it,
// another round may begin.
func TestWhatCallsWaitForIsNotGivenBack(t *testing.T) {
	t.Parallel()
	store := newLedger(&clock{at: noon}, 50)
	c := New(store, logos.Gateway{ID: "g", Epoch: 1}, Options{Now: store.clock.now}, zap.NewNop(), prometheus.NewRegistry())
	x := c.counter(logos.CounterID{Budget: 1}, 0, logos.UnitRequests, noon)
	x.need, c.needy[x] = 50, true
	for range 3 {
		c.lease(t.Context(), false)
		c.needy[x] = true
		if x.granted != 50 {
			t.Fatalf("of 50 that calls wait for %d are granted", x.granted)
		}
		if requests, _, _ := c.plan(noon, false); x.granted != 50 || requests[0].Held != 50 {
			t.Fatalf("the next round gives back what calls wait for: %+v", requests)
		}
		c.needy[x] = true
	}
}
