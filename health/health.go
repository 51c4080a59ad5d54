// Package health knows how the targets of calls are right now: whether they fail, how soon they answer and how
// much they have to do. It learns that from signs of attempts, which Envoy gives once a second and at each end,
// and keeps breakers for deployments and credentials. It decides no call and sends none: policies read its
// [Monitor.State], and probes are ordinary calls. All of it is in memory, of this gateway alone, and is learned
// anew after a start; nothing is settled by it.
//
// accesslog tells it of attempts, ext_proc asks it and tells it what is sent; cmd/logos runs it.
package health

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/policy"
)

// Why a target is not used.
const (
	Drained           = "drained"            // an administrator takes it out
	BreakerOpen       = "breaker_open"       // it fails
	RateLimited       = policy.RateLimited   // it asked for a pause
	CredentialRefused = "credential_refused" // it does not accept its credential
)

const (
	lookEvery = 250 * time.Millisecond
	// priorEvery is how often targets without measurements are compared with their like.
	priorEvery = 5 * time.Second
	// maxWait bounds what a provider may ask for.
	maxWait = 5 * time.Minute
)

// A Monitor watches the targets of one gateway. Its methods may be called from any goroutine, except where they
// say otherwise.
type Monitor struct {
	now       func() time.Time
	firstByte time.Duration
	targets   atomic.Pointer[map[string]*target] // by cluster; replaced as a whole
	calls     calls
	outputs   outputs
	metrics   *metrics
}

// New makes a monitor that knows no targets yet. firstByte is for how long attempts may be silent, before they
// are left whatever policies say.
func New(firstByte time.Duration, log *zap.Logger, reg prometheus.Registerer) *Monitor {
	m := &Monitor{now: time.Now, firstByte: firstByte, calls: calls{open: make(map[logos.CallID]*openCall)}, metrics: newMetrics(log, reg)}
	m.targets.Store(&map[string]*target{})
	return m
}

// Apply watches the targets of a configuration, and forgets others. It is called by one goroutine.
func (m *Monitor) Apply(config *logos.Config) {
	was := *m.targets.Load()
	deployments, credentials := make(map[logos.DeploymentID]*deployment), make(map[logos.CredentialID]*credential)
	for _, t := range was {
		deployments[t.ids.deployment] = t.deployment
		if t.credential != nil {
			credentials[t.credential.id] = t.credential
		}
	}
	next := make(map[string]*target, len(was))
	for _, t := range config.Targets() {
		if t.Deployment == nil {
			continue // what passes through goes to one provider, whatever its health
		}
		if known := was[t.Cluster]; known != nil {
			next[t.Cluster] = known
			continue
		}
		next[t.Cluster] = newTarget(t, deployments, credentials)
	}
	m.targets.Store(&next)
	for cluster, t := range was {
		if next[cluster] == nil {
			m.metrics.forget(t.ids)
		}
	}
}

// newTarget makes a target of which nothing is known, beside others of its deployment and credential.
func newTarget(t *logos.Target, deployments map[logos.DeploymentID]*deployment, credentials map[logos.CredentialID]*credential) *target {
	d := deployments[t.Deployment.ID]
	if d == nil {
		d = &deployment{}
		deployments[t.Deployment.ID] = d
	}
	out := &target{cluster: t.Cluster, ids: ids{deployment: t.Deployment.ID}, provider: t.Provider.ID, deployment: d}
	if t.Model != nil {
		out.model = t.Model.ID
	}
	if t.Credential != nil {
		out.ids.credential = t.Credential.ID
		c := credentials[t.Credential.ID]
		if c == nil {
			c = &credential{id: t.Credential.ID}
			credentials[t.Credential.ID] = c
		}
		out.credential = c
	}
	out.view.Store(unmeasured)
	return out
}

// State returns what is known of a target, for calls with that much input; 0: it is not known. One that fails
// or is slow is offered now and then as one that is not: a call that is sent there then tells. The decision that
// makes it a target has to [Monitor.Claim] it.
func (m *Monitor) State(t *logos.Target, inputTokens int64) policy.State {
	return m.state(t, inputTokens, (*target).judge)
}

// Peek returns what [Monitor.State] does, for what sends no call or has claimed the target.
func (m *Monitor) Peek(t *logos.Target, inputTokens int64) policy.State {
	return m.state(t, inputTokens, (*target).peek)
}

func (m *Monitor) state(t *logos.Target, inputTokens int64, judge func(*target, *policy.State, time.Time)) policy.State {
	if t.Deployment == nil {
		return policy.State{}
	}
	known := (*m.targets.Load())[t.Cluster]
	if known == nil {
		return policy.State{Unhealthy: drained(t), Stale: true}
	}
	if t.Deployment.Drained {
		return policy.State{Unhealthy: Drained, Load: known.deployment.load(t.Deployment.MaxParallel)}
	}
	return known.state(classOf(inputTokens), t.Deployment.MaxParallel, m.now, judge)
}

// Claim keeps a target that was offered for one decision, for the moment that it takes to send the call. False:
// another decision was quicker, and there is no such offer any more.
func (m *Monitor) Claim(t *logos.Target) bool {
	known := (*m.targets.Load())[t.Cluster]
	return known == nil || known.claim(m.now())
}

func drained(t *logos.Target) string {
	if t.Deployment.Drained {
		return Drained
	}
	return ""
}

// Begin takes a call that is about to be sent to the first target of its decision.
func (m *Monitor) Begin(id logos.CallID, d *logos.Decision) {
	if len(d.Targets) == 0 {
		return
	}
	t := (*m.targets.Load())[d.Targets[0].Cluster]
	if t == nil {
		return
	}
	now, kind := m.now(), wholes
	if d.Stream {
		kind = streams
	}
	m.calls.begin(now, id, t, kind, classOf(inputOf(d)))
	t.begin(now, id)
}

// inputOf returns how many tokens a call's prompt has, about.
func inputOf(d *logos.Decision) int64 {
	if d.Facts != nil && d.Facts.InputTokens > 0 {
		return d.Facts.InputTokens
	}
	return d.BodyBytes / 4
}

// OutputTokens returns how long nearly all answers to a project's calls of a model are at most, or, where too
// little is known of the project, to everybody's; 0: not known.
func (m *Monitor) OutputTokens(project logos.ProjectID, model logos.ModelID) int64 {
	return m.outputs.expected(project, model)
}

// Run keeps what decisions see up to date, until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var compared time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := m.now()
		m.look(now)
		if now.Sub(compared) >= priorEvery {
			compared = now
			m.compare()
		}
	}
}

func (m *Monitor) look(now time.Time) {
	m.calls.forget(now)
	unhealthy := make(map[string]int, 4)
	for _, t := range *m.targets.Load() {
		t.look(now, m.metrics)
		t.count(unhealthy)
	}
	m.metrics.observe(unhealthy)
}

// count counts a target with which something is the matter.
func (t *target) count(by map[string]int) {
	c := t.credential
	if !t.alarmed() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	why := t.breaker.reason
	if c != nil && why == "" {
		c.mu.Lock()
		why = c.breaker.reason
		c.mu.Unlock()
	}
	if why == "" {
		why = "slow"
	}
	by[why]++
}

func log2(x float64) float64 { return max(-1, math.Log2(max(x, 1e-9))) }
