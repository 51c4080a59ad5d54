package health

import (
	"slices"

	"github.com/ls1intum/edutelligence/logos"
)

// A peer is what targets without measurements are compared by: the same model at the same provider, else the
// same provider.
type peer struct {
	provider logos.ProviderID
	model    logos.ModelID // 0: any
}

// compare gives targets that were never measured what is usual of their like. They stay stale.
func (m *Monitor) compare() {
	targets := *m.targets.Load()
	peers := make(map[peer][]expected)
	for _, t := range targets {
		if v := t.view.Load(); !v.like && v.first[anyClass].median > 0 {
			for _, p := range [2]peer{{t.provider, t.model}, {t.provider, 0}} {
				peers[p] = append(peers[p], v.first[anyClass])
			}
		}
	}
	for p := range peers {
		slices.SortFunc(peers[p], func(a, b expected) int { return int(a.median - b.median) })
	}
	for _, t := range targets {
		if v := t.view.Load(); v.like || v.first[anyClass].median == 0 {
			t.resemble(v, peers)
		}
	}
}

// resemble takes the middle one of the target's peers for it, unless it was measured since.
func (t *target) resemble(was *view, peers map[peer][]expected) {
	for _, p := range [2]peer{{t.provider, t.model}, {t.provider, 0}} {
		if like := peers[p]; len(like) > 0 {
			v := &view{stale: true, like: true}
			for class := range v.first {
				v.first[class] = like[len(like)/2]
			}
			t.view.CompareAndSwap(was, v)
			return
		}
	}
	if was.like {
		t.view.CompareAndSwap(was, unmeasured)
	}
}
