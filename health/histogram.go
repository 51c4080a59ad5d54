package health

import "math"

// A shape is how a histogram divides what it counts: buckets whose bounds grow by a constant ratio. A quantile
// is right to within that ratio, for values within the bounds.
type shape struct {
	low, ratio float64
	buckets    int
}

// A histogram counts samples that weigh less the older they are. Time is whatever unit its owner uses; after
// each of them a sample weighs half. Adding allocates nothing and touches one bucket: weights of new samples
// grow, instead of all old ones shrinking.
type histogram struct {
	shape    *shape
	counts   []float32
	total    float64 // of counts
	landmark float64 // time at which a sample weighs 1 in counts
}

func newHistogram(s *shape) *histogram {
	return &histogram{shape: s, counts: make([]float32, s.buckets)}
}

// index returns the bucket of a value.
func (s *shape) index(v float64) int {
	if !(v > s.low) {
		return 0
	}
	return int(min(float64(s.buckets-1), math.Log(v/s.low)/math.Log(s.ratio)))
}

// bound returns the lower bound of a bucket.
func (s *shape) bound(i int) float64 { return s.low * math.Pow(s.ratio, float64(i)) }

// maxGrowth is after how many half-lives weights are scaled back: far from where a float32 loses them.
const maxGrowth = 16

// add counts a sample.
func (h *histogram) add(now, v, weight float64) {
	if now-h.landmark > maxGrowth {
		h.rescale(now)
	}
	w := weight * math.Exp2(now-h.landmark)
	h.counts[h.shape.index(v)] += float32(w)
	h.total += w
}

func (h *histogram) rescale(now float64) {
	by, total := math.Exp2(h.landmark-now), 0.0
	for i := range h.counts {
		h.counts[i] *= float32(by)
		total += float64(h.counts[i])
	}
	h.total, h.landmark = total, now
}

// weight returns how many samples of now its samples are worth.
func (h *histogram) weight(now float64) float64 {
	if h == nil {
		return 0
	}
	return h.total * math.Exp2(h.landmark-now)
}

// quantile returns what a share q of the weight is at or below; 0 if there is nothing.
func (h *histogram) quantile(q float64) float64 {
	if h == nil {
		return 0
	}
	return h.shape.quantile(h.counts, q)
}

// quantile finds a quantile of counts, within a bucket by geometric interpolation.
func (s *shape) quantile(counts []float32, q float64) float64 {
	total := 0.0
	for _, c := range counts {
		total += float64(c)
	}
	if total <= 0 {
		return 0
	}
	rest, last := q*total, 0
	for i, c := range counts {
		if c <= 0 {
			continue
		}
		if rest <= float64(c) {
			return s.bound(i) * math.Pow(s.ratio, max(rest, 0)/float64(c))
		}
		rest, last = rest-float64(c), i
	}
	return s.bound(last + 1)
}

// merge adds another histogram's samples, as they weigh now, to counts of the same shape that are for now.
func (h *histogram) merge(into []float32, now float64) {
	if h == nil {
		return
	}
	by := float32(math.Exp2(h.landmark - now))
	for i, c := range h.counts {
		into[i] += c * by
	}
}
