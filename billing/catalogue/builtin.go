package catalogue

import (
	"strings"

	"charm.land/catwalk/pkg/embedded"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// Builtin returns the list that is built in. It writes 0 where it does not know, so a 0 in it is no price.
func Builtin() *List {
	l := &List{Name: "catwalk"}
	for _, p := range embedded.GetAll() {
		for _, m := range p.Models {
			var r rates
			for _, x := range []struct {
				meter  logos.Meter
				amount float64
			}{
				{logos.MeterInput, m.CostPer1MIn}, {logos.MeterOutput, m.CostPer1MOut},
				// Its names are those of the cache's in and out: written and read.
				{logos.MeterCacheWrite, m.CostPer1MInCached}, {logos.MeterCachedInput, m.CostPer1MOutCached},
			} {
				if x.amount > 0 {
					r.add(x.meter, decimal.NewFromFloat(x.amount), 1_000_000, logos.StandardTier, 0)
				}
			}
			l.add(string(p.ID), model{func(name string) bool { return strings.EqualFold(name, m.ID) }, r.list})
		}
	}
	return l
}
