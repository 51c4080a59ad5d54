package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// What budgets may add to the median latency of a call.
const budgetAim = 60 * time.Microsecond

// costBudgets count every call, and are never used up.
var costBudgets = []map[string]any{
	{"name": "bench-money", "unit": "money", "currency": "EUR", "amount": "1000000", "window": "month", "time_zone": "Europe/Berlin", "thresholds": []int{80}},
	{"name": "bench-requests", "each": "api_key", "unit": "requests", "amount": "1000000000", "window": "hour"},
	{"name": "bench-tokens", "unit": "tokens", "amount": "1000000000", "window": "day", "soft": true},
}

// costPrices are in force with budgets and without them.
var costPrices = []map[string]any{
	{"provider": "bench", "meter": "input", "amount": "2.50", "currency": "EUR"},
	{"provider": "bench", "meter": "output", "amount": "10", "currency": "EUR"},
}

// measureBudgets compares calls that budgets count with calls that none counts, and says how many could be counted.
func (p *product) measureBudgets(ctx context.Context, o options) (text string, err error) {
	remove, err := p.create(ctx, "prices", costPrices)
	defer func() { err = errors.Join(err, remove(ctx)) }()
	if err != nil {
		return "", err
	}
	c, err := p.compare(ctx, o, "budgets", costBudgets)
	if err != nil {
		return "", err
	}
	rate, err := reservationRate(ctx)
	return fmt.Sprintf("Budgets (hard in money, hard in requests for each API key, soft in tokens; 1 KB prompt, 1 connection): %s\n%s", c.verdict(budgetAim), rate), err
}
