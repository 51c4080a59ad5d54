package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
	"github.com/ls1intum/edutelligence/logos/egress"
	"github.com/ls1intum/edutelligence/logos/ext_proc"
)

// An outcome is a result with the page of models that was read, if it was one.
type outcome struct {
	Result
	models []string
	next   string
}

// An answer is what came back through Envoy, from the provider or from Envoy itself.
type answer struct {
	id     logos.CallID
	status int
	header http.Header
	body   []byte
	late   bool  // it did not come in time
	broken error // its body broke off
}

// try makes one call.
func (p *Prober) try(ctx context.Context, r Request, t *logos.Target, q dialect.Question) (outcome, error) {
	begin := time.Now()
	where, result := p.look(ctx, t)
	if result != nil {
		return outcome{Result: *result}, nil
	}
	waiting, cancel := context.WithTimeout(ctx, holdLimit)
	defer cancel()
	release, err := p.clusters.Hold(waiting, t)
	if err != nil {
		return outcome{}, err
	}
	defer release()
	got, err := p.send(ctx, r, t, q)
	if err != nil {
		return outcome{}, err
	}
	var record *logos.Call
	if got.status >= http.StatusBadRequest || got.late || got.broken != nil {
		record = p.record(ctx, got.id)
	}
	v := verdict{target: t, question: q, model: r.Model, where: where, answer: got, record: record}
	out, err := v.reach()
	out.Duration, out.CallID = time.Since(begin), got.id
	return out, err
}

// look finds out whether there is an address to call.
func (p *Prober) look(ctx context.Context, t *logos.Target) (where egress.Finding, failed *Result) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	host, port := t.Provider.Address()
	where = p.places.Look(ctx, host, port)
	failed = &Result{Failed: DNS, Message: "the host of the base URL has not been looked up in time: try again"}
	switch {
	case len(where.Addresses) > 0:
		return where, nil
	case where.Refused != nil:
		failed = &Result{Failed: AllowList, Message: where.Refused.Error()}
	case where.Failed != nil:
		failed.Message = where.Failed.Error() + ": check the host of the base URL"
	}
	failed.Duration = time.Since(begin)
	return where, failed
}

// send asks the question on the data plane.
func (p *Prober) send(ctx context.Context, r Request, t *logos.Target, q dialect.Question) (answer, error) {
	timeout := callLimit
	if deadline, ok := ctx.Deadline(); ok { // with time left to see what became of it
		timeout = min(timeout, time.Until(deadline)-time.Second)
	}
	if timeout < time.Second {
		return answer{late: true}, nil
	}
	ticket, revoke := p.tickets.Issue(extproc.Probe{Key: r.Key, Target: t, API: q.API, Model: r.Model, Path: q.Path, Timeout: timeout}, time.Now())
	defer revoke()
	ctx, cancel := context.WithTimeout(ctx, timeout+time.Second/2) // Envoy is the first to give up
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, q.Method, p.url+"/", bytes.NewReader(q.Body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range q.Header {
		request.Header.Set(name, value)
	}
	request.Header.Set(extproc.ProbeHeader, ticket)
	response, err := p.client.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return answer{late: true}, nil
	}
	if err != nil {
		return answer{}, logos.Errorf(logos.Unavailable, "gateway_unavailable", "the data plane can't be reached: see /readyz, and try again")
	}
	defer response.Body.Close()
	got := answer{id: logos.CallID(response.Header.Get("x-request-id")), status: response.StatusCode, header: response.Header}
	got.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	got.late = errors.Is(err, context.DeadlineExceeded)
	got.broken = err
	if len(got.body) > maxAnswer {
		got.broken = errors.New("the answer is too large")
	}
	return got, nil
}

// record waits for the record of a call, in which Envoy's own words are; nil if there is none in time.
func (p *Prober) record(ctx context.Context, id logos.CallID) *logos.Call {
	if !logos.ValidCallID(id) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if record, err := p.records.Call(ctx, id); err == nil {
			return record
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
