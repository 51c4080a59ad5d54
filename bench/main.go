// Package main measures what Logos costs on top of the Envoy that carries it. It runs a bare Envoy and the
// whole product (`logos up`: Envoy, `logos serve`, Postgres) before the same mock provider, sends both the
// same calls in alternating rounds, and prints latency, throughput, CPU per request and memory side by
// side, with the aims that the project sets itself. It also checks that the product's books are right:
// every call that was sent is recorded once, with the tokens that the provider reported.
//
// With -scale it measures something else: the product with 100,000 API keys stored, beside one with next to
// nothing, both started by `logos up`: start-up, memory, what goes to Envoy for a change, how long a change
// takes until a caller sees its effect, and whether calls take longer.
//
// With -policy it plays calls with different needs against four providers, of which one slows down and then
// refuses, and compares how policies choose with simpler ways: where calls went, what they cost, how long the
// first token took, and how many broke what they were promised.
//
// `make bench` and `make bench-policy` call it after `make build`. Loader, mock and what is measured share one machine, so only
// the ratios carry over to another. It reads /proc, so it runs on Linux alone; it refuses to run with
// another database or configuration than those it makes itself, and leaves no process or file behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// mockArgument is the hidden first argument that makes this program the mock provider.
const mockArgument = "mock-provider"

// options are the flags.
type options struct {
	logos, envoy string
	only, out    string
	round, gap   time.Duration
	rounds       int
	filters      bool
	scale        bool
	policy       bool
	size         size
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == mockArgument {
		if err := serveMock(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "bench: mock provider:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parseOptions()
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		switch {
		case o.scale:
			err = benchScale(ctx, o)
		case o.policy:
			err = benchPolicy(ctx, o)
		default:
			err = bench(ctx, o)
		}
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parseOptions() (options, error) {
	divide := 1
	o := options{envoy: os.Getenv("LOGOS_ENVOY")}
	if o.envoy == "" {
		o.envoy = filepath.Join(".runtime", "envoy", "_bin", "envoy")
	}
	flag.StringVar(&o.logos, "logos", filepath.Join("bin", "logos"), "the product's program")
	flag.StringVar(&o.envoy, "envoy", o.envoy, "the Envoy of both sides; default LOGOS_ENVOY, else the fetched one")
	flag.StringVar(&o.only, "only", "", "\"bare\": measure the bare Envoy alone")
	flag.BoolVar(&o.filters, "filters", false, "give the bare Envoy the filters that any gateway needs towards a provider: take the caller's credential off, put the provider's on, look whether to rewrite")
	flag.StringVar(&o.out, "out", "", "also append the table to this file, e.g. bench/RESULTS.md")
	flag.DurationVar(&o.round, "round", 2*time.Second, "length of a round")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each shape, load and side")
	flag.DurationVar(&o.gap, "gap", 2*time.Millisecond, "time between the tokens of a stream; 0: as fast as they go, many in one packet")
	flag.BoolVar(&o.scale, "scale", false, "measure an installation of 100,000 API keys beside one with next to nothing in it, and nothing else")
	flag.BoolVar(&o.policy, "policy", false, "compare choosing by policies with simpler ways, among four providers of which one has troubles, and nothing else")
	flag.IntVar(&divide, "divide", 1, "with -scale: store that many times fewer rows, to try the measuring itself")
	flag.Parse()
	o.size = large.divided(divide)
	switch {
	case runtime.GOOS != "linux":
		return o, errors.New("it reads CPU and memory from /proc, which only Linux has")
	case flag.NArg() > 0 || o.only != "" && o.only != "bare" || o.round <= 0 || o.rounds < 1 || o.gap < 0 || divide < 1 || divide > 20:
		return o, fmt.Errorf("these arguments make no sense: %s", strings.Join(os.Args[1:], " "))
	}
	for _, path := range []*string{&o.logos, &o.envoy} { // they are started in other directories
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return o, err
		}
		*path = absolute
		if path == &o.logos && o.only == "bare" {
			continue
		}
		if _, err := os.Stat(*path); err != nil {
			return o, fmt.Errorf("%w (make build makes it or fetches it)", err)
		}
	}
	return o, nil
}

// bench starts everything, measures, reports and ends everything. The table is printed also where calls
// failed or the books differ; the error says so then.
func bench(ctx context.Context, o options) error {
	// Starting and settling have bounds of their own; this one is for what nobody thought of.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute+time.Duration(o.rounds)*24*o.round)
	defer cancel()
	return inDirectory(func(dir string) error { return benchIn(ctx, dir, o) })
}

// inDirectory calls do with a new directory, which is removed after it.
func inDirectory(do func(dir string) error) (err error) {
	dir, err := os.MkdirTemp("/tmp", "lb") // short: a Unix socket's path has 107 bytes at most
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprint(os.Stderr, lastWords(dir))
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // as root, Postgres runs as another user, who must get in
		return err
	}
	return do(dir)
}

// subdirectory makes a directory that Postgres's user gets into.
func subdirectory(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.Mkdir(path, 0o755)
}

func benchIn(ctx context.Context, dir string, o options) (err error) {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	provider, err := startMock(dir, o.gap)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, provider.stop(os.Interrupt, 2*time.Second)) }()
	envoy, err := startBare(ctx, dir, o.envoy, ports[0], provider.address, o.filters)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, envoy.stop(syscall.SIGTERM, 5*time.Second)) }()
	sides := []*side{envoy.side}

	var p *product
	if o.only == "" {
		if p, err = startProduct(ctx, dir, o, ports[1:], provider); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.stop()) }()
		sides = append(sides, p.side)
	}
	before, err := readMachine()
	if err != nil {
		return err
	}
	cells := allCells()
	if err := measure(ctx, sides, cells, o); err != nil {
		return err
	}
	r := report{options: o, cells: cells, machine: describeMachine(ctx, o.envoy)}
	for _, s := range sides {
		used, err := s.memory()
		if err != nil {
			return err
		}
		r.memory = append(r.memory, used)
	}
	if p != nil {
		r.books, err = p.compareBooks(ctx)
		r.late = p.late
		var failed error
		r.changes, failed = p.measureChanges(ctx)
		err = errors.Join(err, failed)
		r.budgets, failed = p.measureBudgets(ctx, o)
		err = errors.Join(err, failed)
		r.policies, failed = p.measurePolicies(ctx, o)
		err = errors.Join(err, failed)
	}
	after, failed := readMachine()
	r.others = after.others(before)
	err = errors.Join(err, failed, r.failed())
	r.invalid = err
	text := r.markdown()
	fmt.Println(text)
	if o.out != "" {
		err = errors.Join(err, appendTo(o.out, text))
	}
	return err
}
