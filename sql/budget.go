package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// StartGateway returns the epoch of a new process of a gateway. Earlier ones lease nothing any more.
func (s *Store) StartGateway(ctx context.Context, gateway string) (epoch int64, err error) {
	if epoch, err = db.New(s.pool).StartGateway(ctx, gateway); err != nil {
		return 0, fmt.Errorf("start the gateway's epoch: %w", err)
	}
	return epoch, nil
}

// Lease brings a gateway's shares of counters up to date, all or none. It implements [logos.Leases].
func (s *Store) Lease(ctx context.Context, g logos.Gateway, requests []logos.ShareRequest) (shares []logos.Share, err error) {
	requests = slices.Clone(requests)
	slices.SortFunc(requests, func(a, b logos.ShareRequest) int { return a.Counter.Compare(b.Counter) })
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		l := lease{q: db.New(tx), gateway: g, requests: requests}
		shares, err = l.run(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lease %d counters: %w", len(requests), err)
	}
	return shares, nil
}

// A lease is one transaction of shares. It locks the counters first, so that of all gateways one at a time
// grants itself something of each.
type lease struct {
	q        *db.Queries
	gateway  logos.Gateway
	requests []logos.ShareRequest
	limits   map[logos.CounterID]int64
	kept     map[logos.CounterID][]db.LockSharesRow
}

func (l *lease) run(ctx context.Context) ([]logos.Share, error) {
	if err := l.fence(ctx); err != nil || len(l.requests) == 0 {
		return nil, err
	}
	c := newCounterList(len(l.requests))
	for i := range l.requests {
		c.add(l.requests[i].Counter, l.requests[i].End)
	}
	if err := l.q.OpenCounters(ctx, db.OpenCountersParams{BudgetID: c.budgets, WindowStart: c.starts, EachKey: c.keys, WindowEnd: c.ends}); err != nil {
		return nil, err
	}
	if err := l.lock(ctx, c); err != nil {
		return nil, err
	}
	p := db.GrantSharesParams{
		Gateway: l.gateway.ID, Epoch: l.gateway.Epoch, Lease: interval(l.gateway.Lease), Hold: interval(l.gateway.Hold),
		BudgetID: c.budgets, WindowStart: c.starts, EachKey: c.keys, WindowEnd: c.ends,
	}
	var lapsed db.LapseSharesParams
	shares := make([]logos.Share, len(l.requests))
	for i := range l.requests {
		r := &l.requests[i]
		shares[i] = l.grant(r, &lapsed)
		p.Granted, p.Reserved = append(p.Granted, shares[i].Granted), append(p.Reserved, r.Reserved)
	}
	if len(lapsed.Gateway) > 0 {
		if err := l.q.LapseShares(ctx, lapsed); err != nil {
			return nil, err
		}
	}
	return shares, l.q.GrantShares(ctx, p)
}

// fence refuses a process that is not the gateway's latest one.
func (l *lease) fence(ctx context.Context) error {
	epochs, err := l.q.GatewayEpochs(ctx, l.gateway.ID)
	if err == nil && len(epochs) > 0 && epochs[0] > l.gateway.Epoch {
		return logos.Errorf(logos.Conflict, "gateway_replaced", "a later process runs as the gateway %.64q: give each gateway an id of its own in LOGOS_GATEWAY_ID", l.gateway.ID)
	}
	return err
}

// lock reads the limits, and all gateways' shares, and keeps others from changing them.
func (l *lease) lock(ctx context.Context, c *counterList) error {
	counters, err := l.q.LockCounters(ctx, db.LockCountersParams{BudgetID: c.budgets, WindowStart: c.starts, EachKey: c.keys})
	if err != nil {
		return err
	}
	l.limits, l.kept = make(map[logos.CounterID]int64, len(counters)), make(map[logos.CounterID][]db.LockSharesRow, len(counters))
	for _, x := range counters {
		amount, err := decimal.NewFromString(x.Amount)
		if err != nil {
			return fmt.Errorf("read the amount of budget %d: %w", x.BudgetID, err)
		}
		l.limits[counterID(x.BudgetID, x.WindowStart, x.EachKey)] = logos.BudgetUnit(x.Unit).Amount(amount)
	}
	shares, err := l.q.LockShares(ctx, db.LockSharesParams{BudgetID: c.budgets, WindowStart: c.starts, EachKey: c.keys})
	for _, x := range shares {
		id := counterID(x.BudgetID, x.WindowStart, x.EachKey)
		l.kept[id] = append(l.kept[id], x)
	}
	return err
}

// grant decides about one counter. What gateways were granted of which nothing was heard for so long that no call
// of theirs can be open is free again.
func (l *lease) grant(r *logos.ShareRequest, lapsed *db.LapseSharesParams) logos.Share {
	own, others, live := logos.Share{Counter: r.Counter}, int64(0), 1
	for _, x := range l.kept[r.Counter] {
		switch {
		case x.Gateway == l.gateway.ID:
			own.Granted, own.Settled, own.Version = x.Granted, x.Settled, x.Version
			continue
		case x.Lapsed && l.gateway.Steady && x.Granted > x.Settled:
			lapsed.BudgetID, lapsed.WindowStart = append(lapsed.BudgetID, x.BudgetID), append(lapsed.WindowStart, x.WindowStart)
			lapsed.EachKey, lapsed.Gateway = append(lapsed.EachKey, x.EachKey), append(lapsed.Gateway, x.Gateway)
			x.Granted = x.Settled
		case x.Live && x.Granted > x.Settled:
			live++
		}
		others = min(others+max(x.Granted, x.Settled), maxSettled)
	}
	limit := l.limits[r.Counter]
	own.Granted = r.Grant(limit, own, others, live)
	own.Free, own.Live = max(0, limit-others-own.Granted), live
	return own
}

// settle adds what calls have used to the gateway's shares, in the transaction that records the calls.
func settle(ctx context.Context, q *db.Queries, gateway string, spent []logos.Spending) ([]logos.Share, error) {
	sums := make(map[logos.CounterID]*settlement)
	for i := range spent {
		x := &spent[i]
		sum := sums[x.Counter]
		if sum == nil {
			sum = &settlement{Spending: logos.Spending{Counter: x.Counter, End: x.End}}
			sums[x.Counter] = sum
		}
		sum.add(x)
	}
	if len(sums) == 0 {
		return nil, nil
	}
	ordered := make([]*settlement, 0, len(sums))
	for _, sum := range sums {
		ordered = append(ordered, sum)
	}
	slices.SortFunc(ordered, func(a, b *settlement) int { return a.Counter.Compare(b.Counter) })
	c, p := newCounterList(len(sums)), db.SettleSharesParams{Gateway: gateway}
	for _, sum := range ordered {
		c.add(sum.Counter, sum.End)
		p.Settled, p.Overrun, p.Overruns = append(p.Settled, sum.Amount), append(p.Overrun, sum.Overrun), append(p.Overruns, sum.overruns)
	}
	if err := q.OpenCounters(ctx, db.OpenCountersParams{BudgetID: c.budgets, WindowStart: c.starts, EachKey: c.keys, WindowEnd: c.ends}); err != nil {
		return nil, err
	}
	p.BudgetID, p.WindowStart, p.EachKey, p.WindowEnd = c.budgets, c.starts, c.keys, c.ends
	rows, err := q.SettleShares(ctx, p)
	shares := make([]logos.Share, len(rows))
	for i, x := range rows {
		shares[i] = logos.Share{Counter: counterID(x.BudgetID, x.WindowStart, x.EachKey), Settled: x.Settled, Version: x.Version}
	}
	return shares, err
}

// maxSettled bounds sums, far above what a budget can be.
const maxSettled = 4_000_000_000_000_000_000

// A settlement is what several calls have used of a counter.
type settlement struct {
	logos.Spending
	overruns int64
}

func (s *settlement) add(x *logos.Spending) {
	s.Amount += min(max(0, x.Amount), maxSettled-s.Amount)
	if x.Overrun > 0 {
		s.Overrun += min(x.Overrun, maxSettled-s.Overrun)
		s.overruns++
	}
}

// A counterList names counters in the columns that queries take.
type counterList struct {
	budgets      []int64
	starts, ends []time.Time // ends: 1970 for none
	keys         []string
}

func newCounterList(n int) *counterList {
	return &counterList{budgets: make([]int64, 0, n), starts: make([]time.Time, 0, n), ends: make([]time.Time, 0, n), keys: make([]string, 0, n)}
}

func (c *counterList) add(id logos.CounterID, end int64) {
	c.budgets, c.starts = append(c.budgets, int64(id.Budget)), append(c.starts, time.Unix(id.Start, 0).UTC())
	c.keys, c.ends = append(c.keys, clean(id.Key)), append(c.ends, time.Unix(end, 0).UTC())
}

func counterID(budget int64, start time.Time, key string) logos.CounterID {
	return logos.CounterID{Budget: logos.BudgetID(budget), Key: key, Start: start.Unix()}
}

func interval(d time.Duration) pgtype.Interval {
	return pgtype.Interval{Microseconds: d.Microseconds(), Valid: true}
}

// CounterSums returns what all gateways have settled of counters. Those that there are not are left out.
func (s *Store) CounterSums(ctx context.Context, counters []logos.CounterID) ([]logos.CounterSum, error) {
	c := newCounterList(len(counters))
	for _, id := range counters {
		c.add(id, 0)
	}
	rows, err := db.New(s.pool).CounterSums(ctx, db.CounterSumsParams{BudgetID: c.budgets, WindowStart: c.starts, EachKey: c.keys})
	if err != nil {
		return nil, fmt.Errorf("add up counters: %w", err)
	}
	out := make([]logos.CounterSum, len(rows))
	for i, x := range rows {
		out[i] = logos.CounterSum{Counter: counterID(x.BudgetID, x.WindowStart, x.EachKey), Settled: x.Settled, Told: int(x.Told)}
	}
	return out, nil
}

// TellThreshold notes that a threshold of a counter is told of. It returns false where it, or a higher one, was noted
// already.
func (s *Store) TellThreshold(ctx context.Context, id logos.CounterID, percent int) (bool, error) {
	n, err := db.New(s.pool).TellThreshold(ctx, db.TellThresholdParams{
		BudgetID: int64(id.Budget), WindowStart: time.Unix(id.Start, 0).UTC(), EachKey: clean(id.Key), Told: int32(percent),
	})
	if err != nil {
		return false, fmt.Errorf("note a threshold: %w", err)
	}
	return n > 0, nil
}
