package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What the product counts, in /metrics.
const (
	callsMetric  = "logos_calls_recorded_total"
	tokensMetric = "logos_tokens_total"
)

// settleTime bounds the wait for the records of one round.
const settleTime = 15 * time.Second

// books are the product's calls, as the product and as the provider count them.
type books struct {
	calls, tokens       float64 // recorded by the product
	hasCalls, hasTokens bool    // whether it says so at all
	provider            account
}

func (p *product) readBooks(ctx context.Context) (b books, err error) {
	page, err := p.ask(ctx, "http://"+p.admin+"/metrics", nil)
	if err != nil {
		return b, err
	}
	if b.calls, b.hasCalls, err = sumMetric(string(page), callsMetric); err != nil {
		return b, err
	}
	if b.tokens, b.hasTokens, err = sumMetric(string(page), tokensMetric); err != nil {
		return b, err
	}
	text, err := p.ask(ctx, "http://"+p.provider+"/books", nil)
	if err != nil {
		return b, err
	}
	var all map[string]account
	if err := json.Unmarshal(text, &all); err != nil {
		return b, fmt.Errorf("read the provider's books: %w", err)
	}
	b.provider = all["Bearer "+productKey]
	return b, nil
}

// sumMetric adds up a metric over its labels in Prometheus's text format.
func sumMetric(page, name string) (sum float64, found bool, err error) {
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, '}')+1:]), 64)
		if err != nil {
			return 0, false, fmt.Errorf("value of %s: %w", name, err)
		}
		sum, found = sum+value, true
	}
	return sum, found, nil
}

// openBooks waits until the calls of the set-up are recorded, and notes where the books stand.
func (p *product) openBooks(ctx context.Context) error {
	var last books
	err := poll(ctx, settleTime, time.Second, func() error {
		now, err := p.readBooks(ctx)
		if err != nil {
			return err
		}
		still := now == last
		last = now
		switch {
		case !now.hasCalls:
			return fmt.Errorf("/metrics has no %s after a first call", callsMetric)
		case !still:
			return errors.New("the books still change")
		}
		return nil
	})
	p.base = last
	return err
}

// waitRecorded waits until the product has recorded all calls that were answered. A round for which that
// takes too long is noted, and does not end the run; what is missing then, later rounds don't wait for.
func (p *product) waitRecorded(ctx context.Context, answered int) error {
	// Asking takes CPU of the product: it is done seldom, and not before there can be an answer.
	const every = 200 * time.Millisecond
	time.Sleep(every)
	var missing float64
	err := poll(ctx, settleTime, every, func() error {
		if err := p.hasEnded(); err != nil {
			return final{err}
		}
		page, err := p.ask(ctx, "http://"+p.admin+"/metrics", nil)
		if err != nil {
			return err
		}
		calls, _, err := sumMetric(string(page), callsMetric)
		missing = float64(answered) - (calls - p.base.calls)
		if err == nil && missing > p.missing {
			err = fmt.Errorf("%.0f of %d calls are not recorded", missing, answered)
		}
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		p.late++
		p.missing = missing
		return nil
	}
	return err
}

// compareBooks waits until everything is recorded, and compares. What it returns is for the report; it
// is an error too where the books differ.
func (p *product) compareBooks(ctx context.Context) (string, error) {
	var now books
	sent := float64(p.answered)
	err := poll(ctx, 60*time.Second, 500*time.Millisecond, func() (err error) {
		last := now
		if now, err = p.readBooks(ctx); err != nil {
			return err
		}
		switch {
		case now.calls-p.base.calls < sent:
			return errors.New("not all is recorded yet")
		case now != last: // what is recorded twice may come late
			return errors.New("the books still change")
		}
		return nil
	})
	recorded, seen := now.calls-p.base.calls, float64(now.provider.Requests-p.base.provider.Requests)
	text := fmt.Sprintf("Calls through Logos: %.0f answered, %.0f at the provider, %.0f recorded.", sent, seen, recorded)
	right := recorded == sent && seen == sent
	if now.hasTokens {
		tokens, reported := now.tokens-p.base.tokens, float64(now.provider.Tokens-p.base.provider.Tokens)
		text += fmt.Sprintf(" Tokens: %.0f reported by the provider, %.0f recorded.", reported, tokens)
		right = right && tokens == reported
	} else {
		text += " Tokens: /metrics does not count them (" + tokensMetric + ")."
	}
	if err == nil && !right {
		err = errors.New("the books differ")
	}
	if err != nil {
		err = fmt.Errorf("compare the books: %w: %s", err, text)
	}
	return text, err
}
