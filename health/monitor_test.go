package health

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// end is the end of an attempt at provider i that begins and ends now.
func (w *world) end(i int, change func(*logos.AttemptSign)) {
	w.calls++
	w.now = w.now.Add(10 * time.Millisecond)
	s := logos.AttemptSign{
		Call: callID(w.calls), Cluster: w.providers[i].target.Cluster,
		Start: w.now, Age: time.Millisecond, FirstByte: time.Millisecond, Ended: true, Status: 200,
	}
	change(&s)
	s.Start = w.now.Add(-s.Age)
	w.m.Attempt(s)
}

func (w *world) ends(i, n int, change func(*logos.AttemptSign)) {
	for range n {
		w.end(i, change)
	}
}

func withStatus(n int) func(*logos.AttemptSign) { return func(s *logos.AttemptSign) { s.Status = n } }

func leftAfter(d time.Duration) func(*logos.AttemptSign) {
	return func(s *logos.AttemptSign) { s.Status, s.FirstByte, s.TimedOut, s.Age = 0, -1, true, d }
}

func TestWhatSaysNothingOfATargetDoesNotCount(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*logos.AttemptSign){
		"a malformed request":                withStatus(400),
		"no such model":                      withStatus(404),
		"content that is refused":            withStatus(422),
		"the caller went away":               func(s *logos.AttemptSign) { s.Status, s.FirstByte = 0, -1 },
		"the caller went away after headers": func(s *logos.AttemptSign) { s.FirstByte = -1 },
		"a policy's short limit":             leftAfter(2 * time.Second),
	} {
		w := newWorld(t, 1, time.Second)
		w.ends(0, 50, change)
		if s := w.state(0); s.Unhealthy != "" {
			t.Errorf("%s makes it %s", name, s.Unhealthy)
		}
	}
}

func TestWhatFailsIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*logos.AttemptSign)
		times  int
		want   string
	}{
		"an error":               {withStatus(500), failuresInRow, BreakerOpen},
		"too busy":               {withStatus(529), failuresInRow, BreakerOpen},
		"a timeout of its own":   {withStatus(408), failuresInRow, BreakerOpen},
		"no connection":          {func(s *logos.AttemptSign) { s.Status, s.FirstByte, s.Broken = 0, -1, true }, failuresInRow, BreakerOpen},
		"an answer that is cut":  {func(s *logos.AttemptSign) { s.Broken = true }, failuresInRow, BreakerOpen},
		"silence":                {leftAfter(time.Minute), failuresInRow, BreakerOpen},
		"one pause asked for":    {withStatus(429), 1, RateLimited},
		"the credential refused": {withStatus(401), failuresInRow, CredentialRefused},
	} {
		w := newWorld(t, 1, time.Second)
		w.ends(0, c.times-1, c.change)
		if s := w.state(0); s.Unhealthy != "" {
			t.Errorf("%s makes it %s too soon", name, s.Unhealthy)
		}
		if w.end(0, c.change); w.state(0).Unhealthy != c.want {
			t.Errorf("%s makes it %q, want %s", name, w.state(0).Unhealthy, c.want)
		}
	}
}

// One request that makes a provider fail is tried twice, and is but one request.
func TestACallIsOneFailureOfATarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second)
	for n := range failuresInRow {
		if s := w.state(0); s.Unhealthy != "" {
			t.Errorf("after %d calls it is %+v", n, s)
		}
		a := w.send(0)
		for range 2 {
			w.now = w.now.Add(10 * time.Millisecond)
			s := a.sign(time.Millisecond, true)
			s.Start, s.Status = w.now, 500
			w.m.Attempt(s)
		}
	}
	if s := w.state(0); s.Unhealthy != BreakerOpen {
		t.Errorf("after %d calls it is %+v", failuresInRow, s)
	}
}

// The gateway's own limit counts, however short it is.
func TestSilenceToTheEndIsAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second)
	w.m.firstByte = 2 * time.Second
	if w.ends(0, failuresInRow, leftAfter(2*time.Second-early)); w.state(0).Unhealthy != BreakerOpen {
		t.Errorf("it is %+v", w.state(0))
	}
}

// shared makes a world whose providers are deployments of one provider with one credential.
func shared(t *testing.T, n int) *world {
	t.Helper()
	w := newWorld(t, 1, make([]time.Duration, n)...)
	r := resources(n)
	for i := range n {
		r.Deployments[i].Provider, r.Deployments[i].Credential = 1, 1
	}
	config, err := logos.NewConfig(2, r)
	if err != nil {
		t.Fatal(err)
	}
	w.m.Apply(config)
	i := 0
	for _, target := range config.Targets() {
		if target.Deployment != nil {
			w.providers[i].target = target
			i++
		}
	}
	if i != n {
		t.Fatalf("there are %d targets", i)
	}
	return w
}

func TestARefusedCredentialConcernsAllItsTargets(t *testing.T) {
	t.Parallel()
	w := shared(t, 3)
	for i := range failuresInRow {
		w.end(i%2, withStatus(401))
	}
	if s := w.state(2); s.Unhealthy != CredentialRefused {
		t.Errorf("another target with the credential is %+v", s)
	}
	w.now = w.now.Add(firstBackOff)
	if w.end(2, withStatus(200)); w.state(1).Unhealthy != "" {
		t.Errorf("after it was accepted a target is %+v", w.state(1))
	}
	// One target that refuses it, among others that do not, is that target's affair.
	x := shared(t, 3)
	for range failuresInRow {
		x.end(0, withStatus(403))
		x.end(1, withStatus(200))
	}
	if x.state(0).Unhealthy != CredentialRefused || x.state(1).Unhealthy != "" || x.state(2).Unhealthy != "" {
		t.Errorf("targets are %q, %q and %q", x.state(0).Unhealthy, x.state(1).Unhealthy, x.state(2).Unhealthy)
	}
}

func TestALimitOfOneModelIsNotThatOfTheCredential(t *testing.T) {
	t.Parallel()
	limited := func(s *logos.AttemptSign) { s.Status, s.Wait = 429, 20*time.Second }
	w := shared(t, 3)
	w.end(0, limited)
	if w.state(0).Unhealthy != RateLimited || w.state(1).Unhealthy != "" {
		t.Errorf("targets are %q and %q", w.state(0).Unhealthy, w.state(1).Unhealthy)
	}
	if w.end(1, limited); w.state(2).Unhealthy != RateLimited {
		t.Errorf("after a second one it is %q", w.state(2).Unhealthy)
	}
	if w.now = w.now.Add(21 * time.Second); w.state(2).Unhealthy != "" {
		t.Errorf("after the pause it is %q", w.state(2).Unhealthy)
	}
}

func TestADrainedDeploymentIsUnhealthy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second)
	target := *w.providers[0].target
	deployment := *target.Deployment
	deployment.Drained, target.Deployment = true, &deployment
	if s := w.m.State(&target, 0); s.Unhealthy != Drained {
		t.Errorf("it is %+v", s)
	}
	target.Cluster = "not seen yet"
	if s := w.m.State(&target, 0); s.Unhealthy != Drained {
		t.Errorf("before it is watched it is %+v", s)
	}
}

func TestLoadIsTheShareOfWhatItMayCarry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second)
	w.providers[0].rest = time.Minute
	for range 16 {
		w.send(0)
	}
	if s := w.state(0); s.Load != 0.5 {
		t.Errorf("16 calls without a limit are a load of %v", s.Load)
	}
	target := *w.providers[0].target
	deployment := *target.Deployment
	deployment.MaxParallel, target.Deployment = 20, &deployment
	if s := w.m.State(&target, 0); s.Load != 0.8 {
		t.Errorf("16 of 20 calls are a load of %v", s.Load)
	}
	if w.run(30*time.Second, 0); w.state(0).Load != 0.5 {
		t.Errorf("while they are answered, the load is %v", w.state(0).Load)
	}
	// Envoy is gone, and with it all of them.
	w.attempts = nil
	if w.run(forgetAfter+time.Second, 0); w.state(0).Load != 0 || len(w.m.calls.open) != 0 {
		t.Errorf("without a sign of any call, the load is %v, and %d calls are remembered", w.state(0).Load, len(w.m.calls.open))
	}
	// What it carried well is not its limit.
	for range 200 {
		w.send(0)
	}
	if w.run(2*time.Second, 0); w.state(0).Load != 0.5 {
		t.Errorf("with as many calls as it was seen to carry, the load is %v", w.state(0).Load)
	}
}

// A call's second attempt is counted where it is, and measured as what the call is.
func TestAttemptsMoveWithTheirCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second, time.Second)
	a := w.send(0)
	w.now = w.now.Add(time.Second)
	failed := a.sign(time.Second, true)
	failed.Status = 500
	w.m.Attempt(failed)
	if l := w.state(0).Load; l != 0 {
		t.Errorf("after its end the first target has a load of %v", l)
	}
	second := logos.AttemptSign{Call: a.id, Cluster: w.providers[1].target.Cluster, Start: w.now, Age: time.Second, FirstByte: -1}
	w.now = w.now.Add(time.Second)
	w.m.Attempt(second)
	w.m.Attempt(failed) // once more, late
	if x, y := w.state(0).Load, w.state(1).Load; x != 0 || y != 1.0/unlimitedCalls {
		t.Errorf("loads are %v and %v", x, y)
	}
	w.now = w.now.Add(time.Second)
	second.Age, second.FirstByte, second.Status, second.Ended = 2*time.Second, 1500*time.Millisecond, 200, true
	w.m.Attempt(second)
	w.m.look(w.now)
	if s := w.state(1); s.Load != 0 || s.FirstToken < 1300*time.Millisecond || s.FirstToken > 1750*time.Millisecond {
		t.Errorf("the second target is %+v", s)
	}
}

func TestTargetsThatWereNeverMeasuredAreTakenForOthersOfTheirProvider(t *testing.T) {
	t.Parallel()
	w := shared(t, 3)
	for i := range 2 {
		w.providers[i].first = around(time.Second)
		for range 20 {
			w.send(i)
		}
	}
	w.run(20*time.Second, 0)
	if s := w.state(2); !s.Stale || s.FirstToken < 600*time.Millisecond || s.FirstToken > 1600*time.Millisecond {
		t.Errorf("it is %+v", s)
	}
	if s := w.state(0); s.Stale {
		t.Errorf("one that was measured is %+v", s)
	}
	if w.run(10*paceHalfLife, 0); !w.state(0).Stale || w.state(0).FirstToken == 0 {
		t.Errorf("long after it is %+v", w.state(0))
	}
}

// series counts those of changes.
func series(t *testing.T, reg *prometheus.Registry) (n int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "logos_health_changes_total" {
			n += len(f.GetMetric())
		}
	}
	return n
}

// monitor watches n targets in real time.
func monitor(t testing.TB, n int) (*Monitor, []*logos.Target, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	m := New(15*time.Minute, zap.NewNop(), reg)
	config, err := logos.NewConfig(1, resources(n))
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(config)
	return m, config.Targets(), reg
}

func fails(m *Monitor, t *logos.Target) {
	for range failuresInRow {
		m.Attempt(logos.AttemptSign{Call: "x", Cluster: t.Cluster, Start: time.Now(), Status: 500, Ended: true})
	}
}

func TestForgetsTargetsThatAreGone(t *testing.T) {
	t.Parallel()
	m, targets, reg := monitor(t, 2)
	if fails(m, targets[1]); series(t, reg) != 1 {
		t.Errorf("%d series", series(t, reg))
	}
	less, err := logos.NewConfig(2, resources(1))
	if err != nil {
		t.Fatal(err)
	}
	if m.Apply(less); series(t, reg) != 0 || len(*m.targets.Load()) != 1 {
		t.Errorf("%d series and %d targets are left", series(t, reg), len(*m.targets.Load()))
	}
}

// The end of a call tells what the end of its attempt could not.
func TestAnswersThatStallOrHoldAnErrorCountAsFailures(t *testing.T) {
	t.Parallel()
	for _, end := range []logos.EndReason{logos.EndTimeout, logos.EndUpstreamError} {
		w := newWorld(t, 1, time.Second)
		for range failuresInRow {
			w.end(0, withStatus(200))
			w.m.Settled(&logos.Call{End: end, Attempts: []logos.Attempt{{Status: 200, Start: w.now, Target: logos.DecisionTarget{Deployment: 1, Cluster: w.providers[0].target.Cluster}}}})
		}
		if s := w.state(0); s.Unhealthy != BreakerOpen {
			t.Errorf("after answers that end with %s it is %+v", end, s)
		}
	}
}

func TestACallThatReachesItsLongestDurationIsNoFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Second)
	for range 2 * failuresInRow {
		w.end(0, withStatus(200))
		d := logos.Decision{Start: w.now.Add(-time.Minute).UnixMicro(), Deadline: w.now.UnixMicro()}
		w.m.Settled(&logos.Call{End: logos.EndTimeout, Decision: d, Duration: time.Minute, Attempts: []logos.Attempt{{Status: 200, Start: w.now, Target: logos.DecisionTarget{Deployment: 1, Cluster: w.providers[0].target.Cluster}}}})
	}
	if s := w.state(0); s.Unhealthy != "" {
		t.Errorf("it is %+v", s)
	}
}

func TestMayBeUsedFromManyGoroutines(t *testing.T) {
	t.Parallel()
	m, targets, _ := monitor(t, 4)
	config, err := logos.NewConfig(1, resources(4))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 500 {
				t := targets[i%4]
				m.State(t, int64(i))
				m.Begin(callID(1000*g+i), &logos.Decision{Project: 1, BodyBytes: 100, Targets: []logos.DecisionTarget{{Cluster: t.Cluster}}})
				m.OutputTokens(1, 1)
			}
		})
	}
	all.Go(func() {
		for i := range 2000 {
			m.Attempt(logos.AttemptSign{Call: callID(1000*(i%4) + i/4), Cluster: targets[i%4].Cluster, Start: time.Now(), FirstByte: time.Millisecond, Status: []int{200, 500, 429, 401}[i%4], Ended: i%3 > 0})
		}
	})
	all.Go(func() {
		for range 200 {
			m.look(time.Now())
			m.compare()
			m.Apply(config)
			m.Settled(&logos.Call{End: logos.EndOK, Attempts: []logos.Attempt{{Status: 200, Start: time.Now(), Target: logos.DecisionTarget{Deployment: 1, Model: 1, Cluster: targets[0].Cluster},
				Meters: []logos.MeterReading{{Meter: logos.MeterOutput, Quantity: 9}}}}})
		}
	})
	all.Wait()
}

func BenchmarkStateOf100Targets(b *testing.B) {
	for name, failing := range map[string]int{"healthy": 0, "ten fail": 10} {
		b.Run(name, func(b *testing.B) {
			m, targets, _ := monitor(b, 100)
			for i := range failing {
				fails(m, targets[i])
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, t := range targets {
					m.State(t, 700)
				}
			}
		})
	}
}

func callOnce(m *Monitor, t *logos.Target, d *logos.Decision) {
	m.Begin("x", d)
	m.Attempt(logos.AttemptSign{Call: "x", Cluster: t.Cluster, Start: time.Now(), FirstByte: time.Millisecond, Status: 200, Ended: true})
}

func BenchmarkCall(b *testing.B) {
	m, targets, _ := monitor(b, 1)
	d := &logos.Decision{Stream: true, BodyBytes: 100, Targets: []logos.DecisionTarget{{Cluster: targets[0].Cluster}}}
	b.ReportAllocs()
	for b.Loop() {
		callOnce(m, targets[0], d)
	}
}

// Each of 1,000 targets was called since the last look.
func BenchmarkLook(b *testing.B) {
	m, targets, _ := monitor(b, 1000)
	for range b.N {
		b.StopTimer()
		for _, t := range targets {
			callOnce(m, t, &logos.Decision{Stream: true, BodyBytes: 100, Targets: []logos.DecisionTarget{{Cluster: t.Cluster}}})
		}
		b.StartTimer()
		m.look(time.Now())
	}
}

func TestLookingTakesNoProbe(t *testing.T) {
	t.Parallel()
	w := shared(t, 2)
	w.ends(0, failuresInRow, withStatus(401)) // opens the breakers of the target and of the credential
	w.now = w.now.Add(firstBackOff)
	target, other := w.providers[0].target, w.providers[1].target
	for range 3 {
		for _, x := range []*logos.Target{target, other} {
			if s := w.m.State(x, 100); s.Unhealthy != "" || !s.Offered {
				t.Fatalf("after others looked a target is %+v", s)
			}
		}
	}
	if !w.m.Claim(other) {
		t.Fatal("nobody had claimed it")
	}
	if w.m.Claim(target) || w.m.Claim(other) || w.state(0).Unhealthy == "" || w.state(1).Unhealthy == "" {
		t.Error("two calls at once try a credential that is refused")
	}
	if s := w.m.Peek(other, 100); s.Unhealthy != "" {
		t.Errorf("who claimed it finds %+v", s)
	}
	if w.now = w.now.Add(leaseFor); !w.m.Claim(target) {
		t.Error("a call that was not sent keeps others from trying")
	}
}
