package main

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/shopspring/decimal"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/budget"
	"github.com/ls1intum/edutelligence/logos/policy"
)

const (
	// warmUp is after how long shares are leased ahead of the demand.
	warmUp = 2 * time.Second
	// reservationTime is how long calls are counted that are reserved for and settled.
	reservationTime = 2 * time.Second
)

// countedBudgets are those of a call whose reservations are timed, with a counter each.
func countedBudgets() []*logos.Budget {
	million := decimal.NewFromInt(1_000_000)
	return []*logos.Budget{
		{ID: 1, Name: "all", Unit: logos.UnitMoney, Currency: "EUR", Limit: million, Window: logos.WindowMonth, Hard: true},
		{ID: 2, Name: "project", Each: logos.EachProject, Unit: logos.UnitMoney, Currency: "EUR", Limit: million, Window: logos.WindowDay, Hard: true},
		{ID: 3, Name: "key", Each: logos.EachAPIKey, Unit: logos.UnitRequests, Limit: million.Mul(decimal.NewFromInt(1000)), Window: logos.WindowHour, Hard: true},
		{ID: 4, Name: "user", Each: logos.EachEndUser, Unit: logos.UnitTokens, Limit: million, Window: logos.WindowDay},
	}
}

// reservationRate says how many calls a second one core reserves for and settles.
func reservationRate(ctx context.Context) (string, error) {
	rates, err := policy.NewRates("EUR", decimal.New(25, -7), decimal.New(1, -5), decimal.Zero)
	if err != nil {
		return "", err
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	books := &bookkeeper{shares: make(map[logos.CounterID]*logos.Share)}
	counters := budget.New(books, logos.Gateway{ID: "bench", Epoch: 1}, budget.Options{}, zap.NewNop(), prometheus.NewRegistry())
	leasing, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() { _ = counters.Run(leasing) }) // it returns nil
	defer func() { stop(); wait.Wait() }()

	s := spender{counters: counters, books: books, index: budget.NewIndex(countedBudgets())}
	s.target = budget.Target{Target: &logos.Target{
		Provider: &logos.Provider{ID: 1}, Model: &logos.Model{ID: 1}, Deployment: &logos.Deployment{ID: 1, Model: 1, Provider: 1},
	}, Rates: rates}
	if _, err := s.rate(ctx, warmUp); err != nil {
		return "", err
	}
	rate, err := s.rate(ctx, reservationTime)
	return fmt.Sprintf("One core reserved for %.0f calls a second and settled them (%.1f µs a call, with %d counters, three of them hard): in the memory of a gateway, "+
		"without the transaction that records the call.", rate, 1e6/rate, len(countedBudgets())), err
}

// A spender makes calls that are reserved for, and settled at once.
type spender struct {
	counters *budget.Counters
	books    *bookkeeper
	index    *budget.Index
	target   budget.Target
}

// rate returns how many calls a second there were in so long a time.
func (s *spender) rate(ctx context.Context, length time.Duration) (float64, error) {
	n, start := 0, time.Now()
	for ; time.Since(start) < length; n++ {
		if err := s.call(ctx, logos.CallID(strconv.Itoa(n))); err != nil {
			return 0, err
		}
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

func (s *spender) call(ctx context.Context, id logos.CallID) error {
	call := s.counters.Call(s.index, &budget.Caller{Team: 1, Project: 1, APIKey: 1, EndUser: "4c3648d345cf4a3999834ec0041b40d3"}, time.Now())
	grant, short := call.Reserve(ctx, id, 1, []budget.Target{s.target}, &budget.Size{Input: 500, Output: 100})
	if short != nil {
		return fmt.Errorf("reserve for call %s: %w", id, short.Error())
	}
	target := logos.DecisionTarget{Deployment: 1, Model: 1, Provider: 1, Cluster: "d1"}
	s.counters.Settled(s.books.settle(budget.Spent(&logos.Call{
		Decision: logos.Decision{Targets: []logos.DecisionTarget{target}, Reservations: grant.Reservations},
		Attempts: []logos.Attempt{{
			Target: target, Meters: []logos.MeterReading{{Meter: logos.MeterInput, Quantity: 250}, {Meter: logos.MeterOutput, Quantity: 40}},
			Charge: &logos.Charge{Currency: "EUR", Total: decimal.New(1025, -6)},
		}},
	})))
	s.counters.Release(id)
	return nil
}

// A bookkeeper keeps the shares of one gateway, as the database does.
type bookkeeper struct {
	mu     sync.Mutex
	shares map[logos.CounterID]*logos.Share
}

func (b *bookkeeper) share(id logos.CounterID) *logos.Share {
	if b.shares[id] == nil {
		b.shares[id] = &logos.Share{Counter: id, Live: 1}
	}
	return b.shares[id]
}

// Lease grants out of a limit that no run reaches.
func (b *bookkeeper) Lease(_ context.Context, _ logos.Gateway, requests []logos.ShareRequest) ([]logos.Share, error) {
	const limit = 1e15
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []logos.Share
	for i := range requests {
		s := b.share(requests[i].Counter)
		s.Granted = requests[i].Grant(limit, *s, 0, 1)
		s.Free = limit - max(s.Granted, s.Settled)
		out = append(out, *s)
	}
	return out, nil
}

func (b *bookkeeper) settle(spent []logos.Spending) (out []logos.Share) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range spent {
		s := b.share(spent[i].Counter)
		s.Settled += spent[i].Amount
		s.Version++
		out = append(out, *s)
	}
	return out
}
