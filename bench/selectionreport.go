package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A selectionReport compares ways to choose.
type selectionReport struct {
	machine string
	vendors []*vendor
	runs    []selection
}

// markdown returns the table. It is an error if policies broke a promise.
func (r *selectionReport) markdown() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s: policies\n%s\n\n", time.Now().Format("2006-01-02 15:04 MST"), r.machine)
	b.WriteString("| | " + r.names() + " | failed | USD for 1,000 calls | p95 of the first token | promises broken |\n|---|" + strings.Repeat("---|", len(r.vendors)+4) + "\n")
	for i := range r.runs {
		b.WriteString(r.row(&r.runs[i]))
	}
	b.WriteString("\nCalls that broke what their sort was promised, failed ones included:\n\n| | " + r.promises() + " |\n|---|" + strings.Repeat("---|", len(wishes())) + "\n")
	var broken error
	for i := range r.runs {
		row, err := r.kept(&r.runs[i])
		b.WriteString(row)
		if i == len(r.runs)-1 {
			broken = err
		}
	}
	fmt.Fprintf(&b, "\n%d calls a second for %v each, of the four sorts in turn. After %v the vendor `flaky` is %d times slower, from %v to %v it answers 429, then it is well. ",
		selectionRate, runLength, brownOut, slowerThen, refusals, recovery)
	b.WriteString("The simple strategies name a model and have nothing to fall back to; `policies` names the policy of the call's sort. Cost is by the vendors' own books. ")
	text, late := r.moved()
	broken = errors.Join(broken, late)
	b.WriteString(text + "\n")
	if broken != nil {
		fmt.Fprintf(&b, "\n**Not kept:** %v\n", broken)
	}
	return b.String(), broken
}

func (r *selectionReport) names() string {
	var out []string
	for _, v := range r.vendors {
		out = append(out, v.name)
	}
	return strings.Join(out, " | ")
}

func (r *selectionReport) promises() string {
	var out []string
	for _, w := range wishes() {
		out = append(out, w.name+": "+w.promise)
	}
	return strings.Join(out, " | ")
}

func (r *selectionReport) row(s *selection) string {
	cells := []string{s.strategy}
	cost := 0.0
	for _, v := range r.vendors {
		cost += float64(s.charged[v.name]) * v.cost()
		n := 0
		for _, o := range s.outcomes {
			if o.by == v {
				n++
			}
		}
		cells = append(cells, share(n, len(s.outcomes)))
	}
	failed, broken := 0, 0
	var firsts []time.Duration
	for _, o := range s.outcomes {
		if o.by == nil {
			failed++
		} else {
			firsts = append(firsts, o.first)
		}
		if o.breaks() {
			broken++
		}
	}
	slices.Sort(firsts)
	p95 := "-"
	if len(firsts) > 0 {
		p95 = firsts[len(firsts)*95/100].Round(time.Millisecond).String()
	}
	cells = append(cells, share(failed, len(s.outcomes)), fmt.Sprintf("%.2f", 1000*cost/float64(len(s.outcomes))), p95, share(broken, len(s.outcomes)))
	return "| " + strings.Join(cells, " | ") + " |\n"
}

func (o *outcome) breaks() bool { return o.by == nil || wishes()[o.wish].broken(o.by, o.first) }

// kept returns how many calls of each sort broke their promise, and an error for each promise that is broken
// more often than it may.
func (r *selectionReport) kept(s *selection) (string, error) {
	cells := []string{s.strategy}
	var errs []error
	for i, w := range wishes() {
		calls, broken := 0, 0
		for _, o := range s.outcomes {
			if o.wish == i {
				calls++
				if o.breaks() {
					broken++
				}
			}
		}
		cells = append(cells, share(broken, calls))
		if float64(broken) > w.tolerated*float64(calls) {
			errs = append(errs, fmt.Errorf("%s: %s: broken by %d of %d calls", w.name, w.promise, broken, calls))
		}
	}
	return "| " + strings.Join(cells, " | ") + " |\n", errors.Join(errs...)
}

// inTime is how soon calls must leave a vendor that slows down, and come back to one that is well again.
const inTime = 5 * time.Second

// moved says how fast policies left the vendor in trouble and came back; an error says that it was not in time.
func (r *selectionReport) moved() (string, error) {
	early, late, calls := 0, 0, 0
	back := time.Duration(0)
	for _, o := range r.runs[len(r.runs)-1].outcomes {
		troubled := o.by != nil && o.by.trouble != nil
		switch {
		case o.at >= brownOut+inTime && o.at < refusals:
			calls++
			if troubled {
				late++
			}
		case o.at >= brownOut && o.at < refusals && troubled:
			early++
		case o.at >= recovery && troubled && back == 0:
			back = o.at - recovery
		}
	}
	text := fmt.Sprintf("With policies, %d calls went to `flaky` in the first %v in which it was slow, and %d of %d in the rest; the first one %v after it was well again.",
		early, inTime, late, calls, back.Round(10*time.Millisecond))
	var err error
	if late*20 > calls { // a few try whether it still is
		err = fmt.Errorf("%d of %d calls went to a vendor that had been slow for %v", late, calls, inTime)
	}
	if back == 0 || back > inTime {
		err = errors.Join(err, fmt.Errorf("no call went to the vendor within %v of its recovery", inTime))
	}
	return text, err
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of))
}
