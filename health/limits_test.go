package health

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

func TestALimitedTargetIsLeftAloneForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{2 * time.Second, 20 * time.Second} {
		w := newWorld(t, 1, 200*time.Millisecond, 400*time.Millisecond)
		w.run(30*time.Second, 20)
		p := w.providers[0]
		p.status, p.wait, p.first = 429, wait, around(10*time.Millisecond)
		w.run(time.Second, 20)
		p.status, p.wait, p.first = 200, 0, around(200*time.Millisecond)
		last := p.got[len(p.got)-1]
		w.run(wait+6*time.Second, 20)
		i := len(p.got) - 1
		for i >= 0 && p.got[i].After(last) {
			i--
		}
		if i == len(p.got)-1 {
			t.Fatalf("after a pause of %v nothing was sent for six seconds", wait)
		}
		if pause := p.got[i+1].Sub(last); pause < wait-time.Second/2 || pause > wait+5*time.Second {
			t.Errorf("asked for %v, it was left alone for %v", wait, pause)
		}
	}
}

// shared is two deployments, with one credential where shared is set.
func shared(t *testing.T, one bool) (*Monitor, []*logos.Target) {
	t.Helper()
	r := resources(2)
	if one {
		r.Deployments[1].Provider, r.Deployments[1].Credential = 1, 1
	}
	config, err := logos.NewConfig(1, r)
	if err != nil {
		t.Fatal(err)
	}
	m := New(zap.NewNop(), prometheus.NewRegistry())
	m.Apply(config)
	return m, config.Targets()
}

// end tells of an attempt that has ended just now.
func end(m *Monitor, t *logos.Target, n, status int, wait time.Duration) {
	m.Attempt(logos.AttemptSign{
		Call: logos.CallID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", n)), Cluster: t.Cluster, Start: time.Now().Add(-time.Millisecond),
		Age: time.Millisecond, FirstByte: 0, Status: status, Ended: true, Wait: wait,
	})
}

func TestARefusedCredentialConcernsAllItsTargets(t *testing.T) {
	t.Parallel()
	for _, one := range []bool{true, false} {
		m, targets := shared(t, one)
		for n := range failuresInRow {
			end(m, targets[0], n, 401, 0)
		}
		if why := m.State(targets[0], 1).Unhealthy; why != CredentialRefused {
			t.Errorf("the target is %q after refusals, want %q", why, CredentialRefused)
		}
		if why := m.State(targets[1], 1).Unhealthy; (why != "") != one {
			t.Errorf("with one credential for both %v, the other is %q", one, why)
		}
	}
}

func TestWhatIsNotTheTargetsFaultCountsForNothing(t *testing.T) {
	t.Parallel()
	m, targets := shared(t, true)
	for n := range 1000 {
		end(m, targets[0], n, []int{400, 404, 413, 422, 0}[n%5], 0) // 0: the caller went away
	}
	if why := m.State(targets[0], 1).Unhealthy; why != "" {
		t.Errorf("it counts as %q", why)
	}
	targets[0].Deployment.Drained = true
	if why := m.State(targets[0], 1).Unhealthy; why != Drained {
		t.Errorf("drained, it counts as %q", why)
	}
}

func TestForgetsTargetsThatAreGone(t *testing.T) {
	t.Parallel()
	m, targets := shared(t, false)
	for n := range failuresInRow {
		end(m, targets[0], n, 500, 0)
	}
	empty, err := logos.NewConfig(2, logos.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(empty)
	if s := m.State(targets[0], 1); s.Unhealthy != "" || !s.Stale || len(*m.targets.Load()) != 0 {
		t.Errorf("of a target that is gone it still knows %+v", s)
	}
	end(m, targets[0], 9, 500, 0) // and takes no more of it
}

func BenchmarkState(b *testing.B) {
	config, err := logos.NewConfig(1, resources(100))
	if err != nil {
		b.Fatal(err)
	}
	m := New(zap.NewNop(), prometheus.NewRegistry())
	m.Apply(config)
	for n := range 1000 {
		end(m, config.Targets()[n%50], n, 200, 0)
	}
	m.look(time.Now())
	b.ReportAllocs()
	for b.Loop() {
		for _, t := range config.Targets() {
			m.State(t, 1000)
		}
	}
}
