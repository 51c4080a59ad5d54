package egress

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	lookupTimeout = 5 * time.Second
	firstRetry    = time.Second           // after a failure; doubled until it is the usual interval
	settle        = 20 * time.Millisecond // changes that come together are told of together
	rotation      = 5 * time.Minute       // how long an address counts that answers leave out
)

// Run looks hosts up until ctx ends: those of which nothing is known first, then each when it is due, a few
// at a time however many there are. It calls changed when addresses that may be called are others than
// before.
func (b *Book) Run(ctx context.Context, changed func()) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { b.tell(ctx, changed) })
	slots := make(chan struct{}, b.opt.Parallel)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		e, wait := b.next(time.Now())
		if e != nil {
			parts.Go(func() {
				b.look(ctx, e)
				<-slots
				b.signal() // its next turn may be the first
			})
			continue
		}
		<-slots
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		case <-timer.C:
		}
	}
}

// tell passes changes on.
func (b *Book) tell(ctx context.Context, changed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.dirty:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		b.keep()
		changed()
	}
}

// next takes the entry whose turn it is, or says how long to wait. It forgets those that nobody needs.
func (b *Book) next(now time.Time) (first *entry, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wait = b.opt.Every
	for host, e := range b.entries {
		switch {
		case e.busy:
		case !e.named && !e.own && now.After(e.until):
			delete(b.entries, host)
		case e.due.After(now):
			wait = min(wait, e.due.Sub(now))
		case first == nil || e.due.Before(first.due):
			first = e
		}
	}
	if first != nil {
		first.busy = true
	}
	return first, wait
}

func (b *Book) look(ctx context.Context, e *entry) {
	limited, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := find(limited, b.resolver, e.host)
	if ctx.Err() != nil {
		return // it says nothing about the host
	}
	b.learn(e, found, err, time.Now())
}

// learn keeps an answer. A failure keeps the last good one: where name servers are down, providers are not.
func (b *Book) learn(e *entry, found []netip.Addr, err error, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.busy, e.looked = false, true
	outcome := "ok"
	if err == nil {
		e.failures = 0
		if e.outdatedBy(found, now) {
			e.found = found
		}
		e.due = now.Add(spread(b.opt.Every))
	} else {
		outcome = "failed"
		if e.named && e.failed == nil && len(e.found) == 0 {
			b.log.Warn("a provider's host does not resolve; its deployments are left out", zap.String("host", e.host), zap.Error(err))
		}
		e.due = now.Add(spread(min(b.opt.Every, firstRetry<<min(e.failures, 10))))
		e.failures++
	}
	e.failed = err
	changed := b.judge(e)
	if e.refused != nil {
		outcome = "refused"
	}
	b.lookups.WithLabelValues(outcome).Inc()
	close(e.done)
	e.done = make(chan struct{})
	if changed {
		select {
		case b.dirty <- struct{}{}:
		default:
		}
	}
}

// outdatedBy says whether an answer replaces the addresses that are known. A new list is a new cluster in
// Envoy, with connections of its own, so answers that only rotate through the same addresses, or list them in
// another order, change nothing: what may be called stays while some of it is in the answer, and all of it was
// in one of late.
func (e *entry) outdatedBy(answer []netip.Addr, now time.Time) bool {
	for _, a := range answer {
		e.seen[a] = now
	}
	maps.DeleteFunc(e.seen, func(_ netip.Addr, at time.Time) bool { return now.Sub(at) > rotation })
	answered := func(a netip.Addr) bool { return slices.Contains(answer, a) }
	held, usable := 0, false
	for _, a := range e.found {
		if _, late := e.seen[a]; !late {
			return true
		}
		if answered(a) {
			held++
		}
		usable = usable || answered(a) && slices.Contains(e.allowed, a)
	}
	grown := held == len(e.found) && len(answer) > held
	return grown || !usable
}

// spread varies a time by a fifth, so that hosts that were configured together are not looked up together.
func spread(d time.Duration) time.Duration {
	return d*4/5 + rand.N(d*2/5)
}
