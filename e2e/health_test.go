package e2e_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// A moody provider treats attempts as its present mood says.
type moody struct {
	*provider
	mood  atomic.Pointer[act]
	calls atomic.Int64
}

func newMoody(t *testing.T) *moody {
	t.Helper()
	m := &moody{}
	m.turn(ok())
	m.provider = newProvider(t, func(p *provider, w http.ResponseWriter, a asked) {
		m.calls.Add(1)
		m.mood.Load().do(p, w, a)
	})
	return m
}

// turn changes the mood, and returns how many attempts there were before.
func (m *moody) turn(a act) int64 {
	m.mood.Store(&a)
	return m.calls.Load()
}

// callEvery makes calls at a rate for some time, or until one is to be the last. All must be answered.
func (g *gateway) callEvery(every, d time.Duration, model string, stream bool, last func() bool) {
	g.t.Helper()
	tick := time.NewTicker(every)
	defer tick.Stop()
	answered, sent := make(chan *reply), 0
	end := time.Now().Add(d)
	for now := range tick.C {
		if now.After(end) || last != nil && last() {
			break
		}
		sent++
		go func() { answered <- g.call("POST", "/v1/chat/completions", chatBody(model, stream)) }()
	}
	for range sent {
		if r := <-answered; r.status != 200 || r.err != nil {
			g.t.Errorf("a call got %v, %v", r, r.err)
		}
	}
}

func TestAFailingDeploymentIsLeftAndUsedAgain(t *testing.T) {
	t.Parallel()
	first, second := newMoody(t), newMoody(t)
	g := start(t, nil)
	g.deploy("m", "", first.openai("first"), second.openai("second"))
	g.callEvery(50*time.Millisecond, time.Second, "m", false, nil)
	if first.calls.Load() == 0 || second.calls.Load() != 0 {
		t.Fatalf("the first got %d calls, the second %d", first.calls.Load(), second.calls.Load())
	}

	// Each call tries a target that fails twice. After the fifth call in a row it is left, but for probes after
	// one, two and four seconds.
	before := first.turn(status(500))
	g.callEvery(50*time.Millisecond, 4*time.Second, "m", false, nil)
	if n := first.calls.Load() - before; n < 2*5 || n > 2*5+6+2*3 {
		t.Errorf("a deployment that fails was tried %d times in four seconds", n)
	}
	if n := g.metric("logos_health_changes_total", `to="open"`); n != 1 {
		t.Errorf("%v breakers opened, want one", n)
	}
	if n := g.metric("logos_targets_unhealthy", `reason="breaker_open"`); n != 1 {
		t.Errorf("%v targets are unhealthy, want one", n)
	}

	before = first.turn(ok())
	g.callEvery(50*time.Millisecond, 5*time.Second, "m", false, func() bool { return first.calls.Load() > before })
	if first.calls.Load() == before {
		t.Fatal("it is not used within five seconds of its recovery")
	}
	g.eventually("closed breaker", 2*time.Second, func() bool { return g.metric("logos_health_changes_total", `to="closed"`) == 1 })
	others := second.calls.Load()
	g.callEvery(50*time.Millisecond, time.Second, "m", false, nil)
	if n := second.calls.Load() - others; n != 0 {
		t.Errorf("%d calls go elsewhere after that", n)
	}
}

func TestADeploymentThatAsksForAPauseGetsIt(t *testing.T) {
	t.Parallel()
	first, second := newMoody(t), newMoody(t)
	g := start(t, nil)
	g.deploy("m", "", first.openai("first"), second.openai("second"))
	before := first.turn(status(429, "retry-after: 3"))
	begin := time.Now()
	if r := g.chat("m"); r.status != 200 {
		t.Fatalf("the call got %v", r)
	}
	g.eventually("breaker", time.Second, func() bool { return g.metric("logos_health_changes_total", `to="open"`) == 1 })
	first.turn(ok())
	g.callEvery(50*time.Millisecond, 8*time.Second, "m", false, func() bool { return first.calls.Load() > before+1 })
	if again := time.Since(begin); first.calls.Load() == before+1 || again < 3*time.Second {
		t.Errorf("it is tried again %v after it asked for three seconds, %d times", again, first.calls.Load()-before-1)
	}
}

func TestADrainedDeploymentGetsNoCalls(t *testing.T) {
	t.Parallel()
	first, second := newMoody(t), newMoody(t)
	g := start(t, nil)
	g.deploy("m", "", first.openai("first"), second.openai("second"))
	g.administer("PATCH", "deployments/1", object{"drained": true})
	g.waitRevision()
	g.callEvery(20*time.Millisecond, 500*time.Millisecond, "m", false, nil)
	if n := first.calls.Load(); n != 0 {
		t.Errorf("it got %d calls", n)
	}
	if c := g.record(g.chat("m").id()).Candidates; second.calls.Load() == 0 || len(c) != 2 || c[0].Excluded != "unhealthy" {
		t.Errorf("the other got %d calls; candidates are %+v", second.calls.Load(), c)
	}
}

// slowly answers a stream at once with its headers, and with its first event after a while.
func slowly(d time.Duration) act {
	return stream(fmt.Sprintf("a first event after %v", d), "", func(w http.ResponseWriter, a asked) {
		select {
		case <-a.gone:
		case <-time.After(d):
			events{w}.text(event + done)
		}
	})
}

// Headers come at once here, and ends late: that a stream waits shows in what Envoy says of it each second.
func TestABrownOutMovesStreams(t *testing.T) {
	t.Parallel()
	first, second := newMoody(t), newMoody(t)
	first.turn(slowly(200 * time.Millisecond))
	second.turn(slowly(400 * time.Millisecond))
	g := start(t, nil)
	g.deploy("m", "", first.openai("first"), second.openai("second"))
	g.administer("POST", "policies", object{"name": "fast", "level": "installation", "objective": object{"latency": 1, "latency_scale": "0.3s", "hysteresis": 0.02, "exploration": 0.1}})
	g.waitRevision()
	g.callEvery(50*time.Millisecond, 8*time.Second, "m", true, nil)
	a, b := first.calls.Load(), second.calls.Load()
	g.callEvery(50*time.Millisecond, 3*time.Second, "m", true, nil)
	if a, b := first.calls.Load()-a, second.calls.Load()-b; b*4 > a {
		t.Fatalf("the faster one gets %d calls, the other %d", a, b)
	}

	first.turn(slowly(2 * time.Second))
	g.callEvery(50*time.Millisecond, 5*time.Second, "m", true, nil)
	a, b = first.calls.Load(), second.calls.Load()
	g.callEvery(50*time.Millisecond, 5*time.Second, "m", true, nil)
	if a, b := first.calls.Load()-a, second.calls.Load()-b; a*10 > b {
		t.Errorf("five seconds after it became ten times slower, it gets %d calls, the other %d", a, b)
	}

	first.turn(slowly(200 * time.Millisecond))
	g.callEvery(50*time.Millisecond, 20*time.Second, "m", true, func() bool { return g.metric("logos_health_changes_total", `to="fast"`) > 0 })
	a, b = first.calls.Load(), second.calls.Load()
	g.callEvery(50*time.Millisecond, 3*time.Second, "m", true, nil)
	if a, b := first.calls.Load()-a, second.calls.Load()-b; b*4 > a {
		t.Errorf("after it has recovered, it gets %d calls, the other %d", a, b)
	}
}
