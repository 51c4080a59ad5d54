package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A comparison is of rounds with something in force and rounds without it, in turn, at one connection.
type comparison struct {
	without, with []round
	differences   []time.Duration // of the medians of each pair, in order
}

// compare measures what resources of a kind add to a call of 1 KB: they are made before each round with them, and
// deleted after it.
func (p *product) compare(ctx context.Context, o options, kind string, resources []map[string]any) (c comparison, err error) {
	what := shapes()[0].call(p.side, newMock(0))
	for n := range 2*o.rounds + 1 {
		var pair [2]round
		for i := range 2 {
			on := (i + n) % 2
			if pair[on], err = p.under(ctx, what, kind, resources[:on*len(resources)], o); err != nil {
				return c, err
			}
		}
		if n == 0 {
			continue // everything once, and not counted
		}
		c.without, c.with = append(c.without, pair[0]), append(c.with, pair[1])
		c.differences = append(c.differences, median(pair[1])-median(pair[0]))
	}
	slices.Sort(c.differences)
	return c, nil
}

func median(r round) time.Duration {
	return time.Duration(quantile(0.5, whole)([]round{r}) * float64(time.Millisecond))
}

// verdict says what was measured, and whether it is within an aim.
func (c *comparison) verdict(aim time.Duration) string {
	middle := c.differences[len(c.differences)/2]
	holds := "holds"
	if middle > aim {
		holds = "does **not** hold"
	}
	return fmt.Sprintf("p50 %.3f ms without, %.3f ms with; the median difference of %d pairs of rounds is %v (%v to %v); the aim of %v %s.",
		quantile(0.5, whole)(c.without), quantile(0.5, whole)(c.with), len(c.differences), middle.Round(time.Microsecond),
		c.differences[0].Round(time.Microsecond), c.differences[len(c.differences)-1].Round(time.Microsecond), aim, holds)
}

// under measures a round with these resources in force.
func (p *product) under(ctx context.Context, what *call, kind string, resources []map[string]any, o options) (r round, err error) {
	remove, err := p.create(ctx, kind, resources)
	defer func() { err = errors.Join(err, remove(ctx)) }()
	if err != nil {
		return r, err
	}
	return p.run(ctx, what, 1, min(o.round, time.Second), 0)
}

// create makes resources of a kind, and returns what deletes them, also where it fails.
func (p *product) create(ctx context.Context, kind string, resources []map[string]any) (remove func(context.Context) error, err error) {
	var made []string
	remove = func(ctx context.Context) (err error) {
		for _, id := range made {
			_, failed := p.administer(ctx, "DELETE", kind+"/"+id, nil)
			err = errors.Join(err, failed)
		}
		return err
	}
	for _, resource := range resources {
		answer, err := p.administer(ctx, "POST", kind, resource)
		if err != nil {
			return remove, err
		}
		made = append(made, answer["id"].(string))
	}
	return remove, nil
}

// administer makes a call of the admin API, which answers when the change is in force. body may be nil.
func (p *product) administer(ctx context.Context, method, path string, body any) (answer map[string]any, err error) {
	var encoded []byte
	if body != nil {
		if encoded, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	text, err := p.send(ctx, method, "http://"+p.admin+"/admin/v1/"+path, encoded)
	if err != nil {
		return nil, err
	}
	return answer, json.Unmarshal(text, &answer)
}
