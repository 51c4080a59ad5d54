package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/sql"
	"github.com/ls1intum/edutelligence/logos/sql/pgtest"
)

// Books are what the callers of a test know of each counter, apart from those who keep it.
type books struct {
	mu            sync.Mutex
	limits        map[logos.BudgetID]int64
	settled, held map[logos.CounterID]int64
	admitted      int
	worst         string // how a limit was overshot
}

// hold notes a call that was admitted, and what it may use.
func (b *books) hold(reservations []logos.Reservation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.admitted++
	for i := range reservations {
		r := &reservations[i]
		id := r.Counter()
		b.held[id] += r.Amount
		if limit := b.limits[r.Budget]; b.held[id]+b.settled[id] > limit {
			b.worst = fmt.Sprintf("of counter %v, with a limit of %d, %d are settled and %d held", id, limit, b.settled[id], b.held[id])
		}
	}
}

// settle notes what it has used, before anybody who admits calls hears of it.
func (b *books) settle(reservations []logos.Reservation, used func(int64) int64) (spent []logos.Spending) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range reservations {
		r := &reservations[i]
		s := logos.Spending{Counter: r.Counter(), End: r.End, Amount: used(r.Amount)}
		b.held[s.Counter] -= r.Amount
		b.settled[s.Counter] += s.Amount
		spent = append(spent, s)
	}
	return spent
}

// TestNoCounterIsEverOvershot has many callers at one gateway and at three, each call counted by several of some
// forty counters, while answers about settlements get lost. It fails too where transactions wait for each other.
func TestNoCounterIsEverOvershot(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprint("on ", replicas), func(t *testing.T) {
			t.Parallel()
			stress(t, replicas)
		})
	}
}

func stress(t *testing.T, replicas int) {
	t.Helper()
	const callers, calls = 12, 25
	dsn, keys := pgtest.URL(t), pgtest.Key(t, store.NewMasterKeyText())
	var stores []*store.Store
	for range replicas {
		stores = append(stores, pgtest.Open(t, dsn, keys))
	}
	conn := pgtest.Conn(t, dsn)
	b := &books{limits: make(map[logos.BudgetID]int64), settled: make(map[logos.CounterID]int64), held: make(map[logos.CounterID]int64)}
	var list []*logos.Budget
	for i := range 8 {
		limit := int64(500 * (i + 1))
		id := addBudget(t, conn, limit)
		b.limits[id] = limit
		list = append(list, &logos.Budget{ID: id, Unit: logos.UnitTokens, Limit: decimal.NewFromInt(limit), Window: logos.WindowTotal, Hard: true,
			Each: []logos.BudgetEach{logos.EachNone, logos.EachProject, logos.EachEndUser}[i%3]})
	}
	index := budget.NewIndex(list)
	var running sync.WaitGroup
	for i, s := range stores {
		name := fmt.Sprint("gateway ", i)
		c := counters(t, s, name, budget.Options{AskWait: time.Second})
		for n := range callers {
			running.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), uint64(n)))
				for m := range calls {
					id := callID(i*10_000 + n*100 + m)
					caller := &budget.Caller{Project: logos.ProjectID(random.IntN(3)), EndUser: fmt.Sprint(random.IntN(9))}
					size := &budget.Size{Input: 1 + random.Int64N(20), NoOutput: true}
					g, short := c.Call(index, caller, time.Now()).Reserve(context.Background(), id, 0, somewhere, size)
					if short != nil {
						continue
					}
					b.hold(g.Reservations)
					spent := b.settle(g.Reservations, func(reserved int64) int64 { return random.Int64N(reserved + 1) })
					shares := settled(t, s, name, id, spent...)
					if random.IntN(4) == 0 {
						shares = settled(t, s, name, id, spent...) // as if the first answer were lost
					}
					c.Settled(shares)
					c.Release(id)
				}
			})
		}
	}
	running.Wait()
	if b.worst != "" || b.admitted < 50 {
		t.Errorf("%d calls were admitted. %s", b.admitted, b.worst)
	}
	for id, sum := range b.settled {
		got := one[int64](t, conn, "select coalesce(sum(settled), 0)::bigint from budget_shares where budget_id = $1 and each_key = $2", int64(id.Budget), id.Key)
		if got != sum {
			t.Errorf("of %v %d is stored as settled, and %d was used", id, got, sum)
		}
	}
	if n := one[int](t, conn, "select deadlocks::int from pg_stat_database where datname = current_database()"); n != 0 {
		t.Errorf("there were %d deadlocks", n)
	}
}
