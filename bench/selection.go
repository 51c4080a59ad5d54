package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// selectionRate is how many calls a second a run sends, whether the others are answered or not.
const selectionRate = 40

// A wish is a sort of call, with what its policy promises.
type wish struct {
	name    string // of the policy too
	promise string
	// broken says whether an answer breaks the promise.
	broken func(by *vendor, first time.Duration) bool
	// tolerated is the share of calls that may break it, as with a 95th percentile.
	tolerated float64
}

const (
	quickEnough = 400 * time.Millisecond
	frugal      = 0.001 // USD a call
	goodEnough  = 0.8
)

func wishes() []wish {
	return []wish{
		{name: "private", promise: "stays on own machines", broken: func(by *vendor, _ time.Duration) bool { return by.zone != "local" }},
		{name: "quick", promise: "p95 of the first token within 400 ms", tolerated: 0.05, broken: func(_ *vendor, first time.Duration) bool { return first > quickEnough }},
		{name: "frugal", promise: "at most 0.001 USD a call", broken: func(by *vendor, _ time.Duration) bool { return by.cost() > frugal }},
		{name: "good", promise: "declared quality of at least 0.8", broken: func(by *vendor, _ time.Duration) bool { return by.quality < goodEnough }},
	}
}

// A strategy names the model or policy for a call of that wish; n counts the calls.
type strategy struct {
	name string
	pick func(w wish, n int) string
}

func strategies(all []*vendor) []strategy {
	cheapest, best := all[0], all[0]
	for _, v := range all {
		if v.cost() < cheapest.cost() {
			cheapest = v
		}
		if v.quality > best.quality {
			best = v
		}
	}
	return []strategy{
		{"random", func(wish, int) string { return all[rand.IntN(len(all))].name }},
		{"round robin", func(_ wish, n int) string { return all[n/len(wishes())%len(all)].name }},
		{"always cheapest", func(wish, int) string { return cheapest.name }},
		{"always best", func(wish, int) string { return best.name }},
		{"policies", func(w wish, _ int) string { return w.name }},
	}
}

// An outcome is what became of one call.
type outcome struct {
	wish  int
	by    *vendor // nil: it failed
	first time.Duration
	at    time.Duration // since the run's start
	err   error
}

// A selection is the outcomes of one strategy, and the vendors' books of the same time.
type selection struct {
	strategy string
	outcomes []outcome
	charged  map[string]int
}

// benchPolicy plays the same calls, against the same troubles, by policies and by simpler ways to choose.
func benchPolicy(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	return inDirectory(func(dir string) error { return benchPolicyIn(ctx, dir, o) })
}

func benchPolicyIn(ctx context.Context, dir string, o options) (err error) {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	all := vendors()
	for _, v := range all {
		stop, err := v.serve()
		if err != nil {
			return err
		}
		defer stop()
	}
	p := &product{side: &side{name: "Logos", address: ports[0]}, admin: ports[1], provider: all[0].address, dir: dir}
	if err := p.begin(o, ports); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := p.prepareSelection(ctx, o, all); err != nil {
		return fmt.Errorf("prepare the product: %w", err)
	}
	var runs []selection
	for _, s := range strategies(all) {
		fmt.Fprintf(os.Stderr, "bench: %s, %v\n", s.name, runLength)
		run, err := p.play(ctx, s, all)
		if err != nil {
			return err
		}
		runs = append(runs, run)
	}
	r := selectionReport{machine: describeMachine(ctx, o.envoy), vendors: all, runs: runs}
	text, err := r.markdown()
	fmt.Println(text)
	if o.out != "" {
		err = errors.Join(err, appendTo(o.out, text))
	}
	return err
}

// play sends calls at a fixed rate for the length of a run.
func (p *product) play(ctx context.Context, s strategy, all []*vendor) (selection, error) {
	out := selection{strategy: s.name, charged: make(map[string]int)}
	kinds := wishes()
	start := time.Now()
	for _, v := range all {
		v.open(start)
	}
	outcomes := make([]outcome, int(runLength.Seconds()*selectionRate))
	var wait sync.WaitGroup
	var sent atomic.Int64
	for n := range outcomes {
		due := start.Add(time.Duration(n) * time.Second / selectionRate)
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(due)):
		}
		if ctx.Err() != nil {
			break
		}
		sent.Add(1)
		wait.Go(func() {
			outcomes[n] = p.callAs(ctx, s.pick(kinds[n%len(kinds)], n), all)
			outcomes[n].wish, outcomes[n].at = n%len(kinds), due.Sub(start)
		})
	}
	wait.Wait()
	out.outcomes = outcomes[:sent.Load()]
	for _, v := range all {
		out.charged[v.name], _ = v.books()
	}
	return out, ctx.Err()
}

// callAs makes one call, and finds out by the answer's header who answered.
func (p *product) callAs(ctx context.Context, model string, all []*vendor) (o outcome) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	body := fmt.Sprintf(`{"model":%q,"stream":true,"max_tokens":%d,"messages":[{"role":"user","content":%q}]}`, model, vendorOutput, bytes.Repeat([]byte("word"), vendorInput))
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+p.address+callPath, bytes.NewReader([]byte(body)))
	if err != nil {
		o.err = err
		return o
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.key)
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.err = err
		return o
	}
	defer resp.Body.Close()
	var one [1]byte
	_, err = io.ReadFull(resp.Body, one[:])
	o.first = time.Since(start)
	rest, _ := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		o.err = fmt.Errorf("status %d: %.300s", resp.StatusCode, append(one[:], rest...))
		return o
	}
	for _, v := range all {
		if v.name == resp.Header.Get("x-logos-provider") {
			o.by = v
		}
	}
	if o.by == nil {
		o.err = errors.New("the answer does not say who gave it")
	}
	return o
}
