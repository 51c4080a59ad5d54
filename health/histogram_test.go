package health

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A quantile is within one bucket of the exact one of samples that weigh half after each unit of time.
func TestAQuantileIsWithinABucketOfTheExactOne(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		type sample struct{ v, at float64 }
		var all []sample
		h, now := newHistogram(durations), 0.0
		for range 2000 {
			now += r.ExpFloat64() / 30
			v := 0.4 * math.Exp(r.NormFloat64())
			h.add(now, v, 1)
			all = append(all, sample{v, now})
		}
		slices.SortFunc(all, func(a, b sample) int { return int(math.Copysign(1, a.v-b.v)) })
		total := 0.0
		for _, s := range all {
			total += math.Exp2(s.at - now)
		}
		if got := h.weight(now); math.Abs(got-total) > 1e-3*total {
			t.Errorf("seed %d: the weight is %v, want %v", seed, got, total)
		}
		for _, q := range []float64{0.05, 0.5, 0.95} {
			exact, sum := 0.0, 0.0
			for _, s := range all {
				if sum += math.Exp2(s.at - now); sum >= q*total {
					exact = s.v
					break
				}
			}
			if got := h.quantile(q); got > exact*durations.ratio || got < exact/durations.ratio {
				t.Errorf("seed %d: the %v-quantile is %v, exactly %v", seed, q, got, exact)
			}
		}
	}
}
