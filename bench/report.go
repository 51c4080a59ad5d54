package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A report is what a run found.
type report struct {
	options  options
	machine  string
	others   string // how much else went on
	cells    []*cell
	memory   []parts // by side
	books    string
	changes  string
	budgets  string
	policies string
	late     int
	invalid  error
}

// failed is an error if any call failed.
func (r report) failed() error {
	var all []error
	for _, c := range r.cells {
		for _, side := range c.rounds {
			for _, one := range side {
				all = append(all, one.errors...)
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("%d calls failed; the first: %w", len(all), all[0])
}

// A row is one line of the table: a measure of both sides, and of the product's parts where it has them.
type row struct {
	name   string
	values [2]float64 // by side; 0: none
	spread [2]float64 // lowest and highest ratio of a pair of rounds
	unit   string
	aim    float64 // highest ratio wanted; 0: none
	parts  *parts
}

func (r report) rows() []row {
	var out []row
	for _, c := range r.cells {
		at := fmt.Sprintf("%s, %d connection", c.shape.name, c.connections)
		if c.connections > 1 {
			at += "s"
			cpu := c.row(at+": CPU per request", " ms", c.shape.cpu, func(rs []round) float64 { return 1e3 * total(rs).own() / count(rs) })
			if len(c.rounds[1]) > 0 {
				each := total(c.rounds[1]).times(1e3 / count(c.rounds[1]))
				cpu.parts = &each
			}
			out = append(out, cpu, c.row(at+": requests per second", "", 0, func(rs []round) float64 { return count(rs) / seconds(rs) }))
			continue
		}
		out = append(out, c.row(at+": p50", " ms", c.shape.p50, quantile(0.5, whole)), c.row(at+": p99", " ms", 0, quantile(0.99, whole)))
		if c.shape.stream {
			out = append(out, c.row(at+": p50 of the first token", " ms", 0, quantile(0.5, first)))
		}
	}
	memory := row{name: "resident memory at the end", unit: " MiB"}
	for i, m := range r.memory {
		memory.values[i] = m.own() / (1 << 20)
	}
	if len(r.memory) > 1 {
		each := r.memory[1].times(1.0 / (1 << 20))
		memory.parts = &each
	}
	return append(out, memory)
}

// row computes a measure over all rounds of each side, and the spread of its ratio over the pairs.
func (c *cell) row(name, unit string, aim float64, of func([]round) float64) row {
	out := row{name: name, unit: unit, aim: aim}
	for i, rounds := range c.rounds {
		if len(rounds) > 0 {
			out.values[i] = of(rounds)
		}
	}
	for i := range min(len(c.rounds[0]), len(c.rounds[1])) {
		if low := of(c.rounds[0][i : i+1]); low > 0 {
			ratio := of(c.rounds[1][i:i+1]) / low
			if i == 0 {
				out.spread = [2]float64{ratio, ratio}
			}
			out.spread = [2]float64{min(out.spread[0], ratio), max(out.spread[1], ratio)}
		}
	}
	return out
}

func (r row) markdown() string {
	show := func(v float64) string {
		if v == 0 {
			return ""
		}
		if v >= 100 {
			return fmt.Sprintf("%.0f%s", v, r.unit)
		}
		return fmt.Sprintf("%.3g%s", v, r.unit)
	}
	var ratio, aim, holds, envoy, serve, up, postgres string
	if r.values[0] > 0 && r.values[1] > 0 {
		n := r.values[1] / r.values[0]
		ratio = fmt.Sprintf("%.2f", n)
		if r.spread[1] > 0 {
			ratio += fmt.Sprintf(" (%.2f–%.2f)", r.spread[0], r.spread[1])
		}
		if r.aim > 0 {
			holds = "**no**"
			if n <= r.aim {
				holds = "yes"
			}
		}
	}
	if r.aim > 0 {
		aim = fmt.Sprintf("≤ %g", r.aim)
	}
	if r.parts != nil {
		envoy, serve, up, postgres = show(r.parts.envoy), show(r.parts.serve), show(r.parts.up), show(r.parts.postgres)
	}
	return "| " + strings.Join([]string{r.name, show(r.values[0]), show(r.values[1]), ratio, aim, holds, envoy, serve, up, postgres}, " | ") + " |\n"
}

func (r report) markdown() string {
	o := r.options
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n%s\n\n", time.Now().Format("2006-01-02 15:04 MST"), r.machine)
	if o.filters {
		b.WriteString("Bare Envoy with the upstream filters that any gateway with credentials needs (`-filters`).\n\n")
	}
	b.WriteString("| | bare Envoy | Logos | ratio (of single rounds) | aim | holds | Logos: its Envoy | its `logos serve` | beside it: `logos up` | beside it: Postgres |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.rows() {
		b.WriteString(row.markdown())
	}
	fmt.Fprintf(&b, "\n%d rounds of %v each, alternating; %d Envoy worker on each side; tokens of streams %v apart (so their rate is the provider's). "+
		"Mock provider and loader share the machine: only ratios carry over. CPU of Logos is its Envoy and `logos serve`, until every call of the round is recorded. "+
		"Memory of Postgres is the sum of its processes', which counts what they share several times.\n", o.rounds, o.round, concurrency, o.gap)
	b.WriteString(r.others + "\n")
	fmt.Fprintf(&b, "Calls measured at 1 and %d connections: %s.\n", busyConnections, r.counts())
	if r.late > 0 {
		fmt.Fprintf(&b, "In %d rounds the records were not complete within %v: the CPU of those is not all of it.\n", r.late, settleTime)
	}
	for _, found := range []string{r.books, r.changes, r.budgets, r.policies} {
		if found != "" {
			b.WriteString(found + "\n")
		}
	}
	if r.invalid != nil {
		fmt.Fprintf(&b, "\n**Not valid:** %v\n", r.invalid)
	}
	return b.String()
}

// counts says how many calls the numbers stand on.
func (r report) counts() string {
	var out []string
	for i := 0; i < len(r.cells); i += 2 {
		one, many := r.cells[i], r.cells[i+1]
		text := fmt.Sprintf("%s %.0f and %.0f", one.shape.name, count(one.rounds[0]), count(many.rounds[0]))
		if len(r.memory) > 1 {
			text += fmt.Sprintf(" (Logos %.0f and %.0f)", count(one.rounds[1]), count(many.rounds[1]))
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func total(rs []round) (sum parts) {
	for _, r := range rs {
		sum = sum.plus(r.cpu)
	}
	return sum
}

func count(rs []round) (n float64) {
	for _, r := range rs {
		n += float64(len(r.timings))
	}
	return n
}

func seconds(rs []round) (s float64) {
	for _, r := range rs {
		s += r.elapsed.Seconds()
	}
	return s
}

func whole(t timing) time.Duration { return t.whole }
func first(t timing) time.Duration { return t.first }

// quantile returns a measure: the q-quantile, in milliseconds, of all calls in the rounds.
func quantile(q float64, of func(timing) time.Duration) func([]round) float64 {
	return func(rs []round) float64 {
		var all []time.Duration
		for _, r := range rs {
			for _, t := range r.timings {
				all = append(all, of(t))
			}
		}
		if len(all) == 0 {
			return 0
		}
		slices.Sort(all)
		return 1e3 * all[min(int(q*float64(len(all))), len(all)-1)].Seconds()
	}
}
