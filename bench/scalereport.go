package main

import (
	"fmt"
	"strings"
	"time"
)

// propagationAim is what the project wants of 99 changes in 100.
const propagationAim = 500 * time.Millisecond

// A scaleReport is what a run at scale found.
type scaleReport struct {
	options      options
	size         size
	machine      string
	others       string
	small, large *installation
	imported     time.Duration
	changes      *effects
	cells        []*cell
	books        []string
	invalid      error
}

func (r scaleReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## At scale, %s\n%s\n\n", time.Now().Format("2006-01-02 15:04 MST"), r.machine)
	n := r.size
	fmt.Fprintf(&b, "Stored rows: %d providers with a credential each, %d models, %d deployments, %d projects with an access profile each (of up to %d models), %d API keys; clusters in Envoy: %.0f.\n\n",
		n.providers, n.models, n.deployments, n.projects, manyUse+fewUse, n.keys, r.large.resources)
	r.holding(&b)
	r.propagation(&b)
	r.latency(&b)
	fmt.Fprintf(&b, "\n%s\n", r.others)
	for _, text := range r.books {
		b.WriteString(text + "\n")
	}
	if r.invalid != nil {
		fmt.Fprintf(&b, "\n**Not valid:** %v\n", r.invalid)
	}
	return b.String()
}

// holding is what it takes to start and to hold.
func (r scaleReport) holding(b *strings.Builder) {
	starts := func(i *installation) string {
		var out []string
		for _, s := range i.starts {
			out = append(out, s.Round(10*time.Millisecond).String())
		}
		return strings.Join(out, ", ")
	}
	mib := func(bytes float64) string { return fmt.Sprintf("%.0f MiB", bytes/(1<<20)) }
	b.WriteString("| | next to nothing stored | at scale |\n|---|---|---|\n")
	for _, row := range [][3]string{
		{"`logos up` to ready, with Postgres, of " + fmt.Sprint(startsMeasured) + " starts", starts(r.small), starts(r.large)},
		{"resident memory of `logos serve`", mib(r.small.memory.serve), mib(r.large.memory.serve)},
		{"its peak since its start", mib(r.small.peaks.serve), mib(r.large.peaks.serve)},
		{"resident memory of Envoy", mib(r.small.memory.envoy), mib(r.large.memory.envoy)},
		{"its peak since its start", mib(r.small.peaks.envoy), mib(r.large.peaks.envoy)},
	} {
		fmt.Fprintf(b, "| %s | %s | %s |\n", row[0], row[1], row[2])
	}
	fmt.Fprintf(b, "\nAll of it, imported while it ran, was in force %v after the last commit.\n\n", r.imported.Round(10*time.Millisecond))
}

// propagation is what changes took.
func (r scaleReport) propagation(b *strings.Builder) {
	c := r.changes
	b.WriteString("From the commit of one change until a caller saw its effect, at scale:\n\n| | of | p50 | p99 | longest |\n|---|---|---|---|---|\n")
	for _, row := range []struct {
		name string
		took []time.Duration
	}{
		{"a new API key is answered with 200", c.keyAdded},
		{"a revoked one with 401", c.keyRevoked},
		{"a new model with a deployment with 200", c.deploymentAdded},
		{"a deleted one with 404", c.deploymentGone},
	} {
		fmt.Fprintf(b, "| %s | %d | %s |\n", row.name, len(row.took), quantiles(row.took))
	}
	fmt.Fprintf(b, "\nThe aim is %v for 99 in 100. ", propagationAim)
	if len(c.between) > 0 {
		fmt.Fprintf(b, "In between, %d calls got another answer than before and after; the first: %s. ", len(c.between), c.between[0])
	}
	fmt.Fprintf(b, "Meanwhile another caller made %d calls (p50, p99, longest: %s), of which %d failed.\n\n", c.others.answered+len(c.others.failures), quantiles(c.others.timings), len(c.others.failures))
	if len(c.others.failures) > 0 {
		fmt.Fprintf(b, "The first failure: %s\n\n", c.others.failures[0])
	}
	b.WriteString("| what goes to Envoy when | resources | bytes |\n|---|---|---|\n")
	for _, p := range c.pushes {
		fmt.Fprintf(b, "| %s | %.0f | %.0f |\n", p.what, p.resources, p.bytes)
	}
	b.WriteString("\n")
}

// latency is what calls take at scale, against next to nothing.
func (r scaleReport) latency(b *strings.Builder) {
	fmt.Fprintf(b, "| %d alternating rounds of %v | next to nothing stored | at scale | ratio (of single rounds) | aim | holds |\n|---|---|---|---|---|---|\n", r.options.rounds, r.options.round)
	one, many := r.cells[0], r.cells[1]
	rows := []row{
		one.row("1 KB prompt, 1 connection: p50", " ms", 1.1, quantile(0.5, whole)),
		one.row("1 KB prompt, 1 connection: p99", " ms", 0, quantile(0.99, whole)),
		many.row(fmt.Sprintf("1 KB prompt, %d connections: CPU per request", many.connections), " ms", 0, func(rs []round) float64 { return 1e3 * total(rs).own() / count(rs) }),
	}
	for _, r := range rows {
		cells := strings.Split(r.markdown(), " | ")
		b.WriteString(strings.Join(cells[:6], " | ") + " |\n")
	}
}
