package egress

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"github.com/ls1intum/edutelligence/logos"
)

// Options says how a Book looks up; the zero value works.
type Options struct {
	Every    time.Duration // between two lookups of a host; 0: 30 s
	Parallel int           // lookups at once; 0: 8
	Linger   time.Duration // how long a host stays known that is no longer configured; 0: one hour
	File     string        // where addresses are kept over a restart; empty: nowhere
}

// A Book knows where the hosts of providers lead. Its methods may be called from any goroutine; lookups
// happen in [Book.Run].
type Book struct {
	resolver Resolver
	own      listeners
	opt      Options
	log      *zap.Logger
	lookups  *prometheus.CounterVec
	wake     chan struct{} // there may be something to look up
	dirty    chan struct{} // what may be called has changed

	mu      sync.Mutex
	rules   Rules
	entries map[string]*entry
}

// An entry is what is known of a host.
type entry struct {
	host     string
	found    []netip.Addr             // an answer, kept when later ones fail or differ in nothing that matters
	seen     map[netip.Addr]time.Time // when answers last held an address
	allowed  []netip.Addr             // of found
	refused  *Refusal                 // the first of found that is not allowed
	failed   error                    // of the last lookup
	looked   bool                     // there was an answer, if only a failure
	failures int                      // in a row
	due      time.Time                // of the next lookup
	busy     bool                     // it is being looked up
	named    bool                     // some provider of the configuration is there
	own      bool                     // a listener of this gateway is there
	until    time.Time                // when it may be forgotten, if neither holds
	done     chan struct{}            // closed by the next answer
}

// A Finding says what is known of a host and a port.
type Finding struct {
	Addresses []netip.Addr // at which a provider may be called
	Refused   *Refusal     // an address that is not allowed; nil: there is none
	Failed    error        // why the last lookup failed; nil: it did not
}

// NewBook makes a book. own holds the host:port of every listener of this gateway; nothing is ever allowed
// there.
func NewBook(r Resolver, own []string, o Options, log *zap.Logger, reg prometheus.Registerer) *Book {
	o.Every, o.Parallel, o.Linger = cmp.Or(o.Every, 30*time.Second), cmp.Or(o.Parallel, 8), cmp.Or(o.Linger, time.Hour)
	b := &Book{
		resolver: r, own: own, opt: o, log: log, entries: make(map[string]*entry),
		wake: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		lookups: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "logos_egress_lookups_total", Help: "Lookups of providers' hosts, by outcome: ok, failed, or refused where an address is not allowed.",
		}, []string{"outcome"}),
	}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "logos_egress_unreachable_hosts", Help: "Configured hosts of providers without an address that may be called.",
	}, func() float64 { return float64(b.unreachable()) })
	b.remember()
	for _, name := range b.own.names() {
		b.entry(name).own = true
	}
	return b
}

// entry returns that of a host, making one if there is none. b.mu is held, or nobody else knows b.
func (b *Book) entry(host string) *entry {
	e := b.entries[host]
	if e == nil {
		e = &entry{host: host, seen: make(map[netip.Addr]time.Time), done: make(chan struct{})}
		b.entries[host] = e
	}
	return e
}

// patience is how long a change waits for lookups.
const patience = time.Second

// Apply sets the rules and the hosts of a configuration. It returns when each host has been looked up once,
// or after a second: the others follow when they can.
func (b *Book) Apply(ctx context.Context, allow logos.Egress, hosts []string) {
	pending := b.configure(NewRules(allow), hosts, time.Now())
	b.signal()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for _, done := range pending {
		select {
		case <-done:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// configure returns what is closed when hosts of which nothing is known are looked up.
func (b *Book) configure(rules Rules, hosts []string, now time.Time) (pending []<-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rules = rules
	named := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		h = Normal(h)
		named[h] = true
		if e := b.entry(h); !e.looked && len(e.found) == 0 {
			pending = append(pending, e.done)
		}
	}
	for _, e := range b.entries {
		if e.named && !named[e.host] {
			e.until = now.Add(b.opt.Linger)
		}
		e.named = named[e.host]
		b.judge(e)
	}
	return pending
}

// judge finds out which addresses of an entry may be called, and says whether that has changed. b.mu is held.
func (b *Book) judge(e *entry) (changed bool) {
	before, refused := e.allowed, e.refused
	e.allowed, e.refused = nil, nil
	for _, a := range e.found {
		if err := b.rules.Check(e.host, a); err == nil {
			e.allowed = append(e.allowed, a)
		} else if r, ok := err.(*Refusal); ok && e.refused == nil {
			e.refused = r
		}
	}
	if e.named && e.refused != nil && refused == nil {
		b.log.Warn("a provider's host leads to an address that is not allowed; it is not called there",
			zap.String("host", e.host), zap.Stringer("address", e.refused.Address), zap.String("class", string(e.refused.Class)))
	}
	return !slices.Equal(before, e.allowed)
}

// Addresses returns those at which a provider at host and port may be called now; none if nothing is known.
func (b *Book) Addresses(host, port string) []netip.Addr {
	return b.Find(host, port).Addresses
}

// Find returns what is known of a host and a port.
func (b *Book) Find(host, port string) Finding {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[Normal(host)]
	if e == nil {
		return Finding{}
	}
	return b.finding(e, port)
}

// finding leaves out the gateway's own listeners. b.mu is held.
func (b *Book) finding(e *entry, port string) Finding {
	f := Finding{Addresses: e.allowed, Refused: e.refused, Failed: e.failed}
	if !b.own.usePort(port) {
		return f
	}
	var named []netip.Addr
	for _, name := range b.own.names() {
		named = append(named, b.entry(name).found...)
	}
	f.Addresses = nil
	for _, a := range e.allowed {
		if b.own.lead(a, named) {
			f.Refused = &Refusal{Host: e.host, Address: a, Class: Own}
		} else {
			f.Addresses = append(f.Addresses, a)
		}
	}
	return f
}

// Look looks a host up now, known or not, and returns what came of it or what is known when ctx ends. A host
// that is not configured stays known for a while.
func (b *Book) Look(ctx context.Context, host, port string) Finding {
	b.mu.Lock()
	e := b.entry(Normal(host))
	e.due, e.until = time.Time{}, time.Now().Add(b.opt.Linger)
	done := e.done
	b.mu.Unlock()
	b.signal()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return b.Find(host, port)
}

func (b *Book) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Book) unreachable() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.named && len(e.allowed) == 0 {
			n++
		}
	}
	return n
}
