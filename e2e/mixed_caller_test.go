package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An outcome is what the caller knows of its call.
type outcome struct {
	call     *mixedCall
	gateway  *gateway
	id       string // empty: no header came
	status   int    // 0: likewise
	code     string // of an error
	away     bool   // nobody was there to decide it
	complete bool   // the whole answer came
	sawUsage bool
	left     atomic.Bool // by its own will
	ended    time.Time
}

// undecided is what Envoy answers when nobody is there to decide a call.
const undecided = "the gateway can't decide calls at the moment"

// disturbed says that the call did not take its course, for a reason that lies in no provider.
func (o *outcome) disturbed() bool { return o.away || o.status == 0 && !o.left.Load() }

// A mixedLoad makes the calls of the mix, in parallel and at a bounded rate.
type mixedLoad struct {
	book     *mixedBook
	gateways []*gateway
	client   *http.Client
	done     atomic.Int64

	mu       sync.Mutex
	outcomes []*outcome
}

func newMixedLoad(b *mixedBook, gateways []*gateway) *mixedLoad {
	transport := &http.Transport{MaxIdleConnsPerHost: mixedWorkers, DisableCompression: true}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &mixedLoad{book: b, gateways: gateways, client: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// run makes that many calls, and returns when all have ended.
func (l *mixedLoad) run(calls, workers int, rate float64) {
	numbers := make(chan int)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for n := range numbers {
				o := l.call(n)
				l.mu.Lock()
				l.outcomes = append(l.outcomes, o)
				l.mu.Unlock()
				l.done.Add(1)
				if o.disturbed() {
					l.untilServed(o.gateway)
				}
			}
		})
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for n := 0; n < calls && l.book.t.Context().Err() == nil; n++ {
		<-tick.C
		numbers <- n
	}
	close(numbers)
	running.Wait()
}

// untilServed waits until a gateway decides calls again. What comes without a key is on no record.
func (l *mixedLoad) untilServed(g *gateway) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(waitLong); time.Now().Before(deadline); <-tick.C {
		resp, err := l.client.Get("http://" + g.data + "/v1/models")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusUnauthorized {
			return
		}
	}
	l.book.t.Errorf("gateway %s does not come back", g.data)
}

// call makes one call, and leaves it where its fate is to.
func (l *mixedLoad) call(n int) *outcome {
	c := planCall(l.book.seed, n)
	o := &outcome{call: c, gateway: l.gateways[n%len(l.gateways)]}
	defer func() { o.ended = time.Now() }()
	ctx, leave := context.WithCancel(l.book.t.Context())
	defer leave()
	l.register(n, func() { o.left.Store(true); leave() })
	defer l.register(n, nil)
	path, body := c.request()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+o.gateway.data+path, bytes.NewReader(body))
	if err != nil {
		l.book.t.Error(err)
		return o
	}
	req.Header.Set("content-type", "application/json")
	req.Header.Set("authorization", "Bearer "+o.gateway.root)
	if c.fate == fateStranger {
		req.Header.Set("authorization", "Bearer lg-unknown")
	}
	req.Header.Set("x-logos-session", strconv.Itoa(n))
	resp, err := l.client.Do(req)
	if err != nil {
		return o
	}
	defer resp.Body.Close()
	o.id, o.status = resp.Header.Get("x-request-id"), resp.StatusCode
	if c.stream && o.status == http.StatusOK {
		o.readEvents(resp.Body)
		return o
	}
	text, err := io.ReadAll(resp.Body)
	o.code = (&reply{body: text}).code()
	o.away = o.status == http.StatusServiceUnavailable && (o.code == "gateway_starting" || bytes.Contains(text, []byte(undecided)))
	o.complete = err == nil && json.Valid(text)
	o.sawUsage = o.complete && o.status == http.StatusOK && c.fate != fateQuiet
	return o
}

// register says how the provider can make the caller leave.
func (l *mixedLoad) register(n int, leave context.CancelFunc) {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	if leave == nil {
		delete(l.book.leave, n)
	} else {
		l.book.leave[n] = leave
	}
}

// readEvents reads a stream up to its end, or to where the caller leaves.
func (o *outcome) readEvents(body io.Reader) {
	c := o.call
	leaves := c.fate == fateLeftBegun || c.fate == fateLeftFirst || c.fate == fateLeftMid || c.fate == fateLeftUsage
	all, seen := len(c.events()), 0
	lines := bufio.NewReader(body)
	for {
		if leaves && seen == c.breakAt {
			o.left.Store(true)
			return
		}
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, "data:") {
			seen++
			_, told := c.sent(seen)
			told = told && c.fate != fateErrs // its last event is none of the plan
			o.sawUsage = o.sawUsage || told
		}
		if err != nil {
			o.complete = err == io.EOF && seen == all
			return
		}
	}
}
