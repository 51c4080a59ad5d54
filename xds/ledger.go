package xds

import (
	"maps"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
)

// A ledger is what one Envoy process has, as its acknowledgements tell. Envoy acknowledges a resource when it
// has applied it: a cluster that is acknowledged with its addresses and its secret has warmed. So there is
// nothing to ask it for, which would cost it much: its statistics are dozens for each of thousands of clusters.
type ledger struct {
	epoch     string
	has       map[string]map[string]string // version acknowledged, by type and name
	refused   map[string]map[string]string // version refused, likewise; of a response that is refused, all of it
	doubtful  bool                         // some that count as refused may have been taken
	reason    string                       // of the last refusal
	sent      map[string]delivery          // by nonce: neither acknowledged nor refused
	listening bool
	usable    map[string]struct{} // clusters, as last worked out
	done      map[*part]struct{}  // of which it has all; what is taken away or refused makes this void
}

// A delivery is a response that is under way.
type delivery struct {
	kind     string
	versions map[string]string
}

func newLedger(epoch string) *ledger {
	return &ledger{epoch: epoch, has: make(map[string]map[string]string), refused: make(map[string]map[string]string), sent: make(map[string]delivery)}
}

// reopen forgets what a broken stream left open. On a new one Envoy says first what it has.
func (l *ledger) reopen() {
	clear(l.has)
	clear(l.refused)
	clear(l.sent)
	l.doubtful = false
}

// sends notes a response. What it takes away counts as gone at once.
func (l *ledger) sends(r *discoveryv3.DeltaDiscoveryResponse) {
	d := delivery{kind: r.GetTypeUrl(), versions: make(map[string]string, len(r.GetResources()))}
	for _, x := range r.GetResources() {
		d.versions[x.GetName()] = x.GetVersion()
	}
	l.sent[r.GetNonce()] = d
	l.forget(d.kind, r.GetRemovedResources())
}

// forget notes that Envoy has some resources no longer.
func (l *ledger) forget(kind string, names []string) {
	for _, name := range names {
		delete(l.has[kind], name)
		delete(l.refused[kind], name)
	}
	if len(names) > 0 {
		l.done = nil
	}
}

// hears notes a request: what Envoy has already, what it no longer wants, what it acknowledges or refuses.
func (l *ledger) hears(r *discoveryv3.DeltaDiscoveryRequest) {
	kind := r.GetTypeUrl()
	if l.has[kind] == nil {
		l.has[kind], l.refused[kind] = make(map[string]string), make(map[string]string)
	}
	maps.Copy(l.has[kind], r.GetInitialResourceVersions())
	l.forget(kind, r.GetResourceNamesUnsubscribe())
	d, ok := l.sent[r.GetResponseNonce()]
	if !ok {
		return
	}
	delete(l.sent, r.GetResponseNonce())
	if r.GetErrorDetail() == nil {
		maps.Copy(l.has[kind], d.versions)
		for name := range d.versions {
			delete(l.refused[kind], name)
		}
		return
	}
	maps.Copy(l.refused[kind], d.versions)
	l.done = nil
	l.doubtful, l.reason = true, "a "+strings.ToLower(shortType(kind))+" was refused by Envoy: "+r.GetErrorDetail().GetMessage()
}

// settles says what Envoy has said of a version: that it has it, or that it refuses it. Both false: nothing yet.
func settles[R types.Resource](l *ledger, kind string, x item[R]) (has, refused bool) {
	return x.version != "" && l.has[kind][x.name] == x.version, x.version != "" && l.refused[kind][x.name] == x.version
}

// took corrects what counts as refused by what Envoy says that it has.
func (l *ledger) took(kind string, versions map[string]string) {
	for name, version := range l.refused[kind] {
		if versions[name] == version {
			l.has[kind][name] = version
			delete(l.refused[kind], name)
		}
	}
	l.doubtful = false
}
