package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// busyConnections are those of the rounds that measure CPU and throughput.
const busyConnections = 16

// giveUp is after how many errors a round is not worth going on with.
const giveUp = 20

// A shape is a kind of call that is measured, with the highest ratio of product to bare that the project
// wants to see; 0 where it wants none.
type shape struct {
	name     string
	prompt   int // bytes
	stream   bool
	cpu, p50 float64
}

func shapes() []shape {
	return []shape{
		{name: "1 KB prompt", prompt: 1 << 10, cpu: 5, p50: 2.7},
		{name: "100 KB prompt", prompt: 100 << 10, cpu: 4.5},
		{name: "stream of 200 tokens", prompt: 1 << 10, stream: true, cpu: 1.7},
	}
}

// call returns what the loader sends to a side, and what must come back. The model comes last, as with most clients, and the prompt has
// what makes JSON slower to read than plain text has: escapes, and letters beyond ASCII.
func (s shape) call(to *side, provider *mock) *call {
	const sentence = `Wer \"viel\" fragt, bekommt viele Antworten; he who asks little gets few, così è.\n`
	prompt := strings.Repeat(sentence, s.prompt/len(sentence)+1)
	body := `{"messages":[{"role":"user","content":"` + prompt + `"}],"temperature":0.2,"model":"` + modelName + `"`
	if s.stream {
		body += `,"stream":true,"stream_options":{"include_usage":true}`
	}
	c := &call{address: to.address, key: to.key, body: []byte(body + "}"), want: provider.answer}
	if s.stream {
		c.want = provider.wholeStream()
	}
	return c
}

// A side is one of the two things that are compared.
type side struct {
	name, address, key string
	cpu                func() (parts, error)                         // seconds since its start
	memory             func() (parts, error)                         // bytes, now
	settle             func(ctx context.Context, answered int) error // waits for the work that follows the answers
	clients            [busyConnections]client                       // one connection each
	answered           int                                           // calls that got the wanted answer
}

// A round is what a few seconds of one load on one side gave.
type round struct {
	timings []timing
	elapsed time.Duration
	cpu     parts
	errors  []error
}

// A cell holds the rounds of one shape at one number of connections, by side.
type cell struct {
	shape       shape
	connections int
	rounds      [2][]round
}

// allCells are every shape at every load.
func allCells() (out []*cell) {
	for _, s := range shapes() {
		for _, connections := range []int{1, busyConnections} {
			out = append(out, &cell{shape: s, connections: connections})
		}
	}
	return out
}

// measure sends every shape at every load to all sides in turn, the whole several times over, so that a
// machine that slows down or warms up does so for everybody.
func measure(ctx context.Context, sides []*side, cells []*cell, o options) error {
	provider := newMock(0)
	for _, s := range sides {
		for i := range s.clients {
			defer s.clients[i].close()
		}
	}
	for n := range o.rounds + 1 {
		length := o.round
		if n == 0 { // everything once, and not counted: pools, caches and heaps fill
			length = min(o.round, 500*time.Millisecond)
		}
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", n, o.rounds)
		for _, c := range cells {
			var spread time.Duration
			if c.shape.stream {
				spread = streamTokens * o.gap / time.Duration(c.connections)
			}
			for i := range sides {
				i = (i + n) % len(sides) // who is first changes
				r, err := sides[i].run(ctx, c.shape.call(sides[i], provider), c.connections, length, spread)
				if err != nil {
					return fmt.Errorf("%s, %s, %d connections: %w", sides[i].name, c.shape.name, c.connections, err)
				}
				if n > 0 {
					c.rounds[i] = append(c.rounds[i], r)
				}
			}
		}
	}
	return nil
}

// run sends calls on so many connections, on each the next one when the last is answered. Connections
// start spread apart, so that paced streams do not beat in time.
func (s *side) run(ctx context.Context, what *call, connections int, length, spread time.Duration) (round, error) {
	before, err := s.cpu()
	if err != nil {
		return round{}, err
	}
	results := make([]round, connections)
	start := time.Now()
	var wait sync.WaitGroup
	for i := range connections {
		wait.Go(func() {
			time.Sleep(time.Duration(i) * spread)
			results[i].repeat(ctx, &s.clients[i], what, start.Add(length))
		})
	}
	wait.Wait()
	r := round{elapsed: time.Since(start)}
	for _, part := range results {
		r.timings = append(r.timings, part.timings...)
		r.errors = append(r.errors, part.errors...)
	}
	s.answered += len(r.timings)
	if err := ctx.Err(); err != nil {
		return r, err
	}
	if len(r.errors) >= giveUp || len(r.timings) == 0 {
		return r, fmt.Errorf("%d calls failed and %d did not; the first: %w", len(r.errors), len(r.timings), r.errors[0])
	}
	// The side's work for this round ends when it has recorded it, and must not fall into another's round.
	if err := s.settle(ctx, s.answered); err != nil {
		return r, err
	}
	after, err := s.cpu()
	r.cpu = after.minus(before)
	return r, err
}

// repeat calls until the time is over, but at least once.
func (r *round) repeat(ctx context.Context, c *client, what *call, until time.Time) {
	for {
		t, err := c.call(what)
		if err != nil {
			r.errors = append(r.errors, err)
		} else {
			r.timings = append(r.timings, t)
		}
		if ctx.Err() != nil || len(r.errors) >= giveUp || !time.Now().Before(until) {
			return
		}
	}
}
