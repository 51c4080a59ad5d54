package extproc

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"sync"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// ProbeHeader carries the ticket of a probe. Like all of x-logos-* it goes to no provider.
const ProbeHeader = "x-logos-probe"

// A Probe is a call with which somebody who may tries a provider. It goes where no access profile need lead,
// is sent as it came but for its path, and counts like every call.
type Probe struct {
	Key     *logos.APIKey // on whose account
	Target  *logos.Target
	API     logos.API     // APINone: a question about the provider
	Model   string        // as the provider calls it; may be empty
	Path    string        // at the provider, with its query
	Timeout time.Duration // of the whole call
}

// Probes holds the tickets of probes that were announced and not made yet. The zero value works.
type Probes struct {
	mu      sync.Mutex
	tickets map[[sha256.Size]byte]*ticket
}

type ticket struct {
	probe Probe
	until time.Time
}

// Issue returns a ticket that lets whoever sends it in [ProbeHeader] make this call, once, while the probe's
// timeout lasts and revoke has not been called.
func (p *Probes) Issue(probe Probe, now time.Time) (secret string, revoke func()) {
	secret = rand.Text()
	sum := sha256.Sum256([]byte(secret))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tickets == nil {
		p.tickets = make(map[[sha256.Size]byte]*ticket)
	}
	p.tickets[sum] = &ticket{probe: probe, until: now.Add(probe.Timeout)}
	return secret, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.tickets, sum)
	}
}

// take returns the probe of a ticket, which is of no use after that; nil: there is none. What is compared are
// digests, each with every ticket, so that time tells nothing about them.
func (p *Probes) take(secret string, now time.Time) (found *Probe) {
	if p == nil || secret == "" || len(secret) > 64 {
		return nil
	}
	sum := sha256.Sum256([]byte(secret))
	p.mu.Lock()
	defer p.mu.Unlock()
	for known, t := range p.tickets {
		if subtle.ConstantTimeCompare(known[:], sum[:]) == 1 && now.Before(t.until) {
			found = &t.probe
		}
	}
	delete(p.tickets, sum)
	return found
}

// sendProbe decides a probe: it has but one target, and who announced it was allowed to.
func (c *call) sendProbe(p *Probe) (*extprocv3.ProcessingResponse, error) {
	c.key, c.project = p.Key, c.config.Project(p.Key.ProjectID)
	if c.project == nil {
		c.key = nil
		return nil, logos.Errorf(logos.Denied, "project_not_found", "the project of this API key is gone: use another key")
	}
	c.route.API, c.timeout = p.API, p.Timeout
	if !c.server.active(p.Target.Cluster) {
		return nil, notReady(p.Target, c.server.cfg.Inactive(p.Target))
	}
	d := c.decision(nil, p.Model, max(0, c.contentLength))
	d.Deadline = c.now.Add(p.Timeout).UnixMicro()
	target := logos.DecisionTarget{Provider: p.Target.Provider.ID, Cluster: p.Target.Cluster}
	if p.Target.Credential != nil {
		target.Credential = p.Target.Credential.ID
	}
	d.Targets = []logos.DecisionTarget{target}
	return c.send(d, []string{dialect.Rewrite{Path: p.Path, Host: p.Target.Provider.Authority()}.Encode()}, nil)
}
