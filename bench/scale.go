package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// scaleMocks is how many providers' servers there are: the seeded providers lead to them in turn.
const scaleMocks = 4

// startsMeasured is how often each installation is started again.
const startsMeasured = 3

// An installation is a product with what was measured of it.
type installation struct {
	*product
	starts        []time.Duration // to ready
	memory, peaks parts           // bytes
	resources     float64         // clusters that Envoy uses
}

// benchScale measures an installation of the size that the project wants to serve well beside one with
// next to nothing in it: what it takes to start, to hold, to change, and to serve.
func benchScale(ctx context.Context, o options) error {
	// What it waits for has bounds of its own; this one is for what nobody thought of.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute+time.Duration(o.rounds)*8*o.round)
	defer cancel()
	return inDirectory(func(dir string) (err error) {
		var mocks []*mockProcess
		for i := range scaleMocks {
			at, err := subdirectory(dir, "mock"+strconv.Itoa(i))
			if err != nil {
				return err
			}
			m, err := startMock(at, o.gap)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, m.stop(os.Interrupt, 2*time.Second)) }()
			mocks = append(mocks, m)
		}
		ports, err := freePorts(6)
		if err != nil {
			return err
		}
		both := [2]*installation{{}, {}}
		for i, name := range []string{"small", "large"} {
			at, err := subdirectory(dir, name)
			if err != nil {
				return err
			}
			if both[i].product, err = startProduct(ctx, at, o, ports[3*i:3*i+3], mocks[i]); err != nil {
				return err
			}
			both[i].side.name = name
			defer func() { err = errors.Join(err, both[i].stop()) }()
		}
		return measureScale(ctx, o, both[0], both[1], mocks)
	})
}

func measureScale(ctx context.Context, o options, small, big *installation, mocks []*mockProcess) error {
	r := scaleReport{options: o, small: small, large: big, size: o.size, machine: describeMachine(ctx, o.envoy)}
	before, err := readMachine()
	if err != nil {
		return err
	}
	if r.imported, err = big.seed(ctx, o.size, mocks); err != nil {
		return err
	}
	for _, i := range []*installation{small, big} {
		if err := i.startAgain(ctx, o); err != nil {
			return fmt.Errorf("start the %s installation again: %w", i.side.name, err)
		}
	}
	r.cells = []*cell{{shape: shapes()[0], connections: 1}, {shape: shapes()[0], connections: busyConnections}}
	if err := measure(ctx, []*side{small.side, big.side}, r.cells, o); err != nil {
		return err
	}
	for _, i := range []*installation{small, big} {
		books, err := i.compareBooks(ctx)
		r.books = append(r.books, i.side.name+": "+books)
		r.invalid = errors.Join(r.invalid, err)
	}
	if r.changes, err = big.measureEffects(ctx); err != nil {
		return err
	}
	after, err := readMachine()
	if err != nil {
		return err
	}
	r.others = after.others(before)
	r.invalid = errors.Join(r.invalid, report{cells: r.cells}.failed())
	text := r.markdown()
	fmt.Println(text)
	if o.out != "" {
		err = appendTo(o.out, text)
	}
	return errors.Join(r.invalid, err)
}

// seed fills the installation's database while it runs, and returns how long it took from then until all
// of it was in force.
func (i *installation) seed(ctx context.Context, n size, mocks []*mockProcess) (time.Duration, error) {
	databaseURL, err := environment(i.tree.serve.pid, "DATABASE_URL")
	if err != nil {
		return 0, err
	}
	addresses := make([]string, len(mocks))
	for k, m := range mocks {
		addresses[k] = m.address
	}
	fmt.Fprintln(os.Stderr, "bench: seeding")
	if err := seed(ctx, databaseURL, i.dir, n, addresses); err != nil {
		return 0, err
	}
	begin := time.Now()
	revision, err := latestRevision(ctx, databaseURL)
	if err != nil {
		return 0, err
	}
	err = poll(ctx, 5*time.Minute, 50*time.Millisecond, func() error {
		applied, err := i.metric(ctx, "logos_config_applied_revision")
		if err == nil && int64(applied) < revision {
			err = fmt.Errorf("revision %.0f is in force, want %d", applied, revision)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("wait for what was seeded: %w", err)
	}
	return time.Since(begin), i.ready(ctx)
}

// startAgain stops and starts the installation some times, and then looks what it holds.
func (i *installation) startAgain(ctx context.Context, o options) error {
	for range startsMeasured {
		if err := i.stop(); err != nil {
			return err
		}
		begin := time.Now()
		if err := i.launch(o.logos); err != nil {
			return err
		}
		if err := i.ready(ctx); err != nil {
			return err
		}
		i.starts = append(i.starts, time.Since(begin))
	}
	if err := firstAnswer(ctx, i.side, i.child, 30*time.Second, func() error { return nil }); err != nil {
		return err
	}
	if err := i.beginMeasuring(ctx); err != nil { // this takes some seconds, in which garbage goes
		return err
	}
	var err error
	if i.resources, err = i.metric(ctx, "logos_xds_active_clusters"); err != nil {
		return err
	}
	if i.memory, err = i.readMemory(); err != nil {
		return err
	}
	var failed error
	i.peaks.serve, err = peak(i.tree.serve.pid)
	i.peaks.envoy, failed = peak(i.tree.envoy.pid)
	return errors.Join(err, failed)
}

func (p *product) metric(ctx context.Context, name string) (float64, error) {
	page, err := p.ask(ctx, "http://"+p.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	value, _, err := sumMetric(string(page), name)
	return value, err
}
