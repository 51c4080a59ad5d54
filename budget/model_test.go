package budget

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// A clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

var errAway = errors.New("the database is away")

// A ledger keeps shares as the database does, in memory: what the SQL must do, in few lines.
type ledger struct {
	mu     sync.Mutex
	clock  *clock
	limit  func(logos.BudgetID) int64
	shares map[logos.CounterID]map[string]*keptShare
	away   bool // every transaction fails
	lossy  bool // transactions happen, and their answers are lost
	ended  map[logos.CallID]bool
	cut    map[string]bool // gateways that do not reach it
	leases int
}

type keptShare struct {
	logos.Share
	epoch        int64
	lease, until time.Time
}

func newLedger(clock *clock, limit int64) *ledger {
	return &ledger{clock: clock, limit: func(logos.BudgetID) int64 { return limit }, shares: make(map[logos.CounterID]map[string]*keptShare), cut: make(map[string]bool), ended: make(map[logos.CallID]bool)}
}

func (l *ledger) share(id logos.CounterID, gateway string) *keptShare {
	if l.shares[id] == nil {
		l.shares[id] = make(map[string]*keptShare)
	}
	if l.shares[id][gateway] == nil {
		l.shares[id][gateway] = &keptShare{}
	}
	return l.shares[id][gateway]
}

func (l *ledger) Lease(_ context.Context, g logos.Gateway, requests []logos.ShareRequest) ([]logos.Share, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leases++
	if l.away || l.cut[g.ID] {
		return nil, errAway
	}
	now := l.clock.now()
	var out []logos.Share
	for i := range requests {
		r := &requests[i]
		own := l.share(r.Counter, g.ID)
		if own.epoch > g.Epoch {
			return nil, logos.Errorf(logos.Conflict, "fenced", "a later process runs as this gateway")
		}
		live, others := 1, int64(0)
		for id, s := range l.shares[r.Counter] {
			if id == g.ID {
				continue
			}
			if now.After(s.until) && g.Steady {
				s.Granted = s.Settled
			}
			if now.Before(s.lease) {
				live++
			}
			others += max(s.Granted, s.Settled)
		}
		limit := l.limit(r.Counter.Budget)
		own.Granted, own.epoch = r.Grant(limit, own.Share, others, live), g.Epoch
		own.lease, own.until = now.Add(g.Lease), now.Add(g.Hold)
		s := own.Share
		s.Counter, s.Free, s.Live = r.Counter, max(0, limit-others-max(own.Granted, own.Settled)), live
		out = append(out, s)
	}
	if l.lossy {
		return nil, errAway
	}
	return out, nil
}

// settle stores once what a call has used, and returns the shares as they are then.
func (l *ledger) settle(gateway string, id logos.CallID, spent []logos.Spending) (out []logos.Share, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away || l.cut[gateway] {
		return nil, errAway
	}
	for _, x := range spent {
		s := l.share(x.Counter, gateway)
		if !l.ended[id] {
			s.Settled += x.Amount
			s.Version++
		}
		kept := s.Share
		kept.Counter = x.Counter
		out = append(out, kept)
	}
	l.ended[id] = true
	if l.lossy {
		return nil, errAway
	}
	return out, nil
}

// total returns what is settled of a counter, and what is granted.
func (l *ledger) total() (settled, granted int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, gateways := range l.shares {
		for _, s := range gateways {
			settled += s.Settled
			granted += max(s.Granted, s.Settled)
		}
	}
	return settled, granted
}

// An open call, as the durable intent knows it.
type openCall struct {
	id           logos.CallID
	reservations []logos.Reservation
	deadline     time.Time
}

// A replica is one gateway of the model.
type replica struct {
	t     *testing.T
	id    string
	epoch int64
	store *ledger
	clock *clock
	index *Index
	*Counters
	open []openCall // survive the process
	late []func()   // answers of the database that have not arrived yet
}

func (r *replica) start() {
	r.epoch++
	r.late = nil
	r.Counters = New(r.store, logos.Gateway{ID: r.id, Epoch: r.epoch}, Options{MaxCall: time.Minute, AskWait: time.Second, Now: r.clock.now}, zap.NewNop(), prometheus.NewRegistry())
	for _, o := range r.open {
		r.Restore(o.id, o.reservations)
	}
}

// try makes a call that may use up to worst tokens.
func (r *replica) try(id string, worst int64) bool {
	call := r.Call(r.index, &Caller{Project: 1}, r.clock.now())
	size := &Size{Input: worst, NoOutput: true}
	targets := []Target{{Target: &logos.Target{Provider: &logos.Provider{ID: 1}}}}
	if short := call.claim(0, targets, size, 0); short != nil {
		r.t.Fatalf("the claim fails: %+v", short)
	}
	if r.admit(logos.CallID(id), call.claims) != nil {
		for i := range call.claims { // as ask does, with the transaction made here
			x := r.counters[call.claims[i].reservation.Counter()]
			x.need += worst
			r.needy[x] = true
			r.lease(r.t.Context(), false)
			x.need -= worst
		}
		if r.admit(logos.CallID(id), call.claims) != nil {
			return false
		}
	}
	r.open = append(r.open, openCall{logos.CallID(id), call.grant(0).Reservations, r.clock.now().Add(time.Minute)})
	return true
}

// end settles a call with what it used, at most what it reserved.
func (r *replica) end(i int, used int64) {
	o := r.open[i]
	var spent []logos.Spending
	for _, x := range o.reservations {
		spent = append(spent, logos.Spending{Counter: x.Counter(), Amount: min(used, x.Amount)})
	}
	shares, err := r.store.settle(r.id, o.id, spent)
	if err != nil {
		return // its line stays in the log
	}
	r.open = append(r.open[:i:i], r.open[i+1:]...)
	process := r.Counters
	r.late = append(r.late, func() { process.Settled(shares); process.Release(o.id) })
}

// hear takes one of the answers that have not arrived yet.
func (r *replica) hear(i int) {
	r.late[i]()
	r.late = append(r.late[:i:i], r.late[i+1:]...)
}

func tokenBudget(limit int64) *logos.Budget {
	return &logos.Budget{ID: 1, Name: "tokens", Unit: logos.UnitTokens, Limit: decimal.NewFromInt(limit), Window: logos.WindowTotal, Hard: true}
}

// TestNeverAdmitsMoreThanTheLimit plays random histories of three gateways: calls, their ends, restarts, outages,
// lost answers and passing time. At every moment what is settled and what open calls hold is within the limit, and
// so is what is granted; once all is over, every token can be had again.
func TestNeverAdmitsMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		playHistory(t, seed)
	}
}

func playHistory(t *testing.T, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	limit := 1 + random.Int64N(500)
	clock := &clock{at: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
	store := newLedger(clock, limit)
	index := NewIndex([]*logos.Budget{tokenBudget(limit)})
	var replicas []*replica
	for i := range 3 {
		r := &replica{t: t, id: fmt.Sprint("gateway ", i), store: store, clock: clock, index: index}
		r.start()
		replicas = append(replicas, r)
	}
	for n := range 400 {
		r := replicas[random.IntN(3)]
		switch k := random.IntN(100); {
		case k < 45:
			r.try(fmt.Sprint(n), 1+random.Int64N(max(1, limit/8)))
		case k < 75:
			if len(r.open) > 0 {
				i, used := random.IntN(len(r.open)), random.Int64N(limit/8+2)
				if was := store.lossy; random.IntN(4) == 0 { // the answer is lost, and it is asked again
					store.lossy = true
					r.end(i, used)
					store.lossy = was
				}
				r.end(i, used)
			}
		case k < 80:
			if len(r.late) > 0 {
				r.hear(random.IntN(len(r.late)))
			}
		case k < 87:
			r.lease(t.Context(), true)
		case k < 92:
			clock.advance(time.Duration(random.IntN(20_000)) * time.Millisecond)
		case k < 93:
			clock.advance(time.Duration(random.IntN(240)) * time.Second)
		case k < 95:
			r.start() // killed, and started again
		case k < 97:
			store.away = !store.away
		case k < 98:
			store.cut[r.id] = !store.cut[r.id]
		default:
			store.lossy = !store.lossy
		}
		for _, r := range replicas { // no call outlives its deadline by more than the time for its record
			for len(r.open) > 0 && clock.now().After(r.open[0].deadline) {
				store.away, store.lossy, store.cut[r.id] = false, false, false
				r.end(0, limit)
			}
		}
		checkLimit(t, seed, n, limit, store, replicas)
	}
	checkAllReturns(t, seed, limit, store, clock, replicas)
}

func checkLimit(t *testing.T, seed uint64, step int, limit int64, store *ledger, replicas []*replica) {
	t.Helper()
	settled, granted := store.total()
	held := int64(0)
	for _, r := range replicas {
		for _, o := range r.open {
			if !store.ended[o.id] {
				held += o.reservations[0].Amount
			}
		}
	}
	if settled+held > limit || granted > limit {
		t.Fatalf("history %d, step %d: of %d there are %d settled and %d held, and %d granted", seed, step, limit, settled, held, granted)
	}
}

// checkAllReturns ends all calls, and takes what is left from one gateway while another one is gone for good.
func checkAllReturns(t *testing.T, seed uint64, limit int64, store *ledger, clock *clock, replicas []*replica) {
	t.Helper()
	store.away, store.lossy = false, false
	clear(store.cut)
	for _, r := range replicas {
		for len(r.open) > 0 {
			r.end(0, 1)
		}
		for len(r.late) > 0 {
			r.hear(0)
		}
		for id, x := range r.counters {
			if x.reserved != 0 {
				t.Fatalf("history %d: %v holds %d of %v without calls", seed, r.id, x.reserved, id)
			}
		}
	}
	clock.advance(5 * time.Minute) // the dead are given up
	replicas[1].lease(t.Context(), true)
	for range 20 {
		clock.advance(15 * time.Second)
		replicas[0].lease(t.Context(), true)
	}
	settled, _ := store.total()
	if left := limit - settled; left > 0 && !replicas[0].try("last", left) {
		t.Fatalf("history %d: %d of %d are settled, and %d can't be had", seed, settled, limit, left)
	}
}
