package health

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// A provider answers calls in a simulated time.
type provider struct {
	target *logos.Target
	status int
	first  func(r *rand.Rand) time.Duration // to the first byte; negative: never
	rest   time.Duration
	wait   time.Duration // Retry-After
	got    []time.Time   // when calls were sent to it
	open   int
}

// world simulates a gateway in steps of a clock of its own. What Envoy writes is read delay later.
type world struct {
	t         *testing.T
	m         *Monitor
	rand      *rand.Rand
	now       time.Time
	begun     time.Time
	providers []*provider
	attempts  []*attempt
	incumbent int
	calls     int
}

const (
	step  = 10 * time.Millisecond
	delay = 60 * time.Millisecond
)

type attempt struct {
	p            *provider
	id           logos.CallID
	start        time.Time
	first, ended time.Duration // negative: never
	status       int
	signs        int // given
}

// around makes times that scatter about a median as those of models do: 95 in 100 within 2.7 times of it.
func around(median time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration {
		return time.Duration(float64(median) * math.Exp(0.6*r.NormFloat64()))
	}
}

func newWorld(t *testing.T, seed uint64, medians ...time.Duration) *world {
	t.Helper()
	w := &world{t: t, m: New(15*time.Minute, zap.NewNop(), prometheus.NewRegistry()), rand: rand.New(rand.NewPCG(seed, 1)), incumbent: -1,
		now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.begun = w.now
	w.m.now = func() time.Time { return w.now }
	config, err := logos.NewConfig(1, resources(len(medians)))
	if err != nil {
		t.Fatal(err)
	}
	w.m.Apply(config)
	for i, median := range medians {
		target := config.Targets()[i]
		w.providers = append(w.providers, &provider{target: target, status: 200, first: around(median), rest: 500 * time.Millisecond})
	}
	return w
}

// resources are deployments of one model, each at a provider and with a credential of its own.
func resources(n int) logos.Resources {
	r := logos.Resources{Projects: []*logos.Project{{ID: 1}}, Models: []*logos.Model{{ID: 1, Name: "m"}}}
	profile := &logos.Profile{ID: 1, ProjectID: 1, Models: []logos.ModelID{1}}
	for i := 1; i <= n; i++ {
		base, _ := url.Parse(fmt.Sprintf("http://p%d.example", i))
		r.Providers = append(r.Providers, &logos.Provider{ID: logos.ProviderID(i), BaseURL: base})
		r.Credentials = append(r.Credentials, &logos.Credential{ID: logos.CredentialID(i), Provider: logos.ProviderID(i), Secret: "x"})
		r.Deployments = append(r.Deployments, &logos.Deployment{ID: logos.DeploymentID(i), Model: 1, Provider: logos.ProviderID(i), Credential: logos.CredentialID(i)})
		profile.Grants = append(profile.Grants, logos.Grant{Provider: logos.ProviderID(i), Credential: logos.CredentialID(i)})
	}
	r.Profiles = []*logos.Profile{profile}
	return r
}

func (w *world) state(i int) policy.State { return w.m.State(w.providers[i].target, 100) }

// choose takes the healthy target that is expected to answer first, and stays where it is unless another is
// better by a quarter. -1: none is healthy.
func (w *world) choose() int {
	best, incumbent := -1, time.Duration(0)
	var least time.Duration
	for i := range w.providers {
		s := w.state(i)
		if s.Unhealthy != "" {
			continue
		}
		if i == w.incumbent {
			incumbent = max(s.FirstToken, 1)
		}
		if best < 0 || s.FirstToken < least {
			best, least = i, s.FirstToken
		}
	}
	if incumbent > 0 && float64(incumbent) < 1.25*float64(least) {
		return w.incumbent
	}
	return best
}

// call sends a call where it is best sent, or nowhere.
func (w *world) call() {
	i := w.choose()
	if i < 0 {
		return
	}
	w.incumbent = i
	w.send(i)
}

func callID(n int) logos.CallID {
	return logos.CallID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", n))
}

func (w *world) send(i int) *attempt {
	p := w.providers[i]
	w.calls++
	id := callID(w.calls)
	w.m.Begin(id, &logos.Decision{Stream: true, BodyBytes: 400, Targets: []logos.DecisionTarget{{Cluster: p.target.Cluster}}})
	p.got = append(p.got, w.now)
	p.open++
	a := &attempt{p: p, id: id, start: w.now, status: p.status, first: -1, ended: -1}
	if first := p.first(w.rand); first >= 0 {
		a.first, a.ended = first, first+p.rest
		if p.status != 200 {
			a.ended = first
		}
	}
	w.attempts = append(w.attempts, a)
	return a
}

// run lets time pass, with calls at a rate.
func (w *world) run(d time.Duration, perSecond float64) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(step)
		for due := perSecond * step.Seconds(); due > 0; due-- {
			if w.rand.Float64() < due {
				w.call()
			}
		}
		w.deliver()
		if w.now.Sub(w.begun)%lookEvery == 0 {
			w.m.look(w.now)
		}
		if w.now.Sub(w.begun)%priorEvery == 0 {
			w.m.compare()
		}
	}
}

// deliver gives the signs that are due.
func (w *world) deliver() {
	kept := w.attempts[:0]
	for _, a := range w.attempts {
		age := w.now.Add(-delay).Sub(a.start)
		if a.ended >= 0 && age >= a.ended {
			a.p.open--
			w.m.Attempt(a.sign(a.ended, true))
			continue
		}
		if age >= time.Duration(a.signs+1)*time.Second {
			a.signs++
			w.m.Attempt(a.sign(time.Duration(a.signs)*time.Second, false))
		}
		kept = append(kept, a)
	}
	w.attempts = kept
}

func (a *attempt) sign(age time.Duration, ended bool) logos.AttemptSign {
	s := logos.AttemptSign{Call: a.id, Cluster: a.p.target.Cluster, Start: a.start, Age: age, FirstByte: -1, Ended: ended}
	if a.first >= 0 && age >= a.first {
		s.FirstByte, s.Status = a.first, a.status
		if ended {
			s.Wait = a.p.wait
		}
	}
	return s
}

// shares returns which share of calls each provider got since a time.
func (w *world) shares(since time.Time) []float64 {
	out, sum := make([]float64, len(w.providers)), 0.0
	for i, p := range w.providers {
		for _, at := range p.got {
			if !at.Before(since) {
				out[i]++
				sum++
			}
		}
	}
	for i := range out {
		out[i] /= max(sum, 1)
	}
	return out
}

// age returns for how long the simulation has run.
func (w *world) age() time.Duration { return w.now.Sub(w.begun) }

// turns counts how often calls in a row went to different providers.
func (w *world) turns(since time.Time) (n int) {
	type sent struct {
		at time.Time
		to int
	}
	var all []sent
	for i, p := range w.providers {
		for _, at := range p.got {
			if at.After(since) {
				all = append(all, sent{at, i})
			}
		}
	}
	slices.SortFunc(all, func(a, b sent) int { return a.at.Compare(b.at) })
	for i := 1; i < len(all); i++ {
		if all[i].to != all[i-1].to {
			n++
		}
	}
	return n
}
