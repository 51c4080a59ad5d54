package health

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// Quantiles are right to within the ratio of two bounds.
func TestQuantilesAreWithinTheStatedError(t *testing.T) {
	t.Parallel()
	for name, sample := range map[string]func(*rand.Rand) float64{
		"lognormal":   func(r *rand.Rand) float64 { return 0.4 * math.Exp(0.8*r.NormFloat64()) },
		"exponential": func(r *rand.Rand) float64 { return 0.005 + 2*r.ExpFloat64() },
		"uniform":     func(r *rand.Rand) float64 { return 0.1 + 30*r.Float64() },
		"two humps":   func(r *rand.Rand) float64 { return []float64{0.2, 6}[r.IntN(2)] * (1 + 0.05*r.NormFloat64()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 7))
			h, all := newHistogram(durations), []float64(nil)
			for range 5000 {
				v := sample(r)
				all = append(all, v)
				h.add(3, v, 1)
			}
			slices.Sort(all)
			for _, q := range []float64{0.05, 0.25, 0.9, 0.95, 0.99} {
				exact, got := all[int(q*float64(len(all)))], h.quantile(q)
				if ratio := got / exact; ratio > durations.ratio || ratio < 1/durations.ratio {
					t.Errorf("quantile %v is %v, exactly %v", q, got, exact)
				}
			}
		})
	}
}

func TestSamplesWeighHalfAfterAHalfLife(t *testing.T) {
	t.Parallel()
	h := newHistogram(durations)
	for range 100 {
		h.add(0, 1, 1)
	}
	for range 60 {
		h.add(1, 10, 1)
	}
	if w := h.weight(1); math.Abs(w-110) > 0.1 {
		t.Errorf("100 samples and 60 a half-life later weigh %v, want 110", w)
	}
	if q := h.quantile(0.5); q < 8 || q > 12 {
		t.Errorf("the median is %v, want 10", q)
	}
}

// A histogram that is added to for years keeps its weights.
func TestWeightsStayRightOverManyHalfLives(t *testing.T) {
	t.Parallel()
	h := newHistogram(durations)
	for i := range 20000 {
		h.add(float64(i)/10, 0.5, 1)
	}
	// Ten in each half-life: 1 / (1 - 2^-0.1) in all.
	if w, want := h.weight(1999.9), 1/(1-math.Exp2(-0.1)); math.Abs(w/want-1) > 0.01 {
		t.Errorf("it weighs %v, want %v", w, want)
	}
	if q := h.quantile(0.5); q < 0.5/durations.ratio || q > 0.5*durations.ratio {
		t.Errorf("the median is %v", q)
	}
	if w := h.weight(1e5); !(w >= 0 && w < 1e-9) {
		t.Errorf("long after, it weighs %v", w)
	}
}

func TestValuesBeyondTheBoundsAreCounted(t *testing.T) {
	t.Parallel()
	h := newHistogram(durations)
	for _, v := range []float64{0, -1, math.NaN(), 1e12, math.Inf(1)} {
		h.add(0, v, 1)
	}
	if w, q := h.weight(0), h.quantile(0.99); w != 5 || !(q > 0) || math.IsInf(q, 0) {
		t.Errorf("five values weigh %v, and 99 in 100 are below %v", w, q)
	}
	if q := newHistogram(tokens).quantile(0.5); q != 0 {
		t.Errorf("the median of nothing is %v", q)
	}
}

func TestASampleAllocatesNothing(t *testing.T) { // not in parallel: it counts what all allocate
	h := newHistogram(durations)
	if n := testing.AllocsPerRun(100, func() { h.add(1, 2, 1) }); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}

func TestWhatIsUsualIsKnownBySize(t *testing.T) {
	t.Parallel()
	p, now := &pace{}, noon
	for range 50 {
		now = now.Add(100 * time.Millisecond)
		p.sample(now, streams, 0, 200*time.Millisecond)
		p.sample(now, streams, 3, 3*time.Second)
	}
	p.look(now)
	for class, want := range map[int]float64{0: 0.2, 3: 3} {
		if got := p.first(class).median; got < want/durations.ratio || got > want*durations.ratio {
			t.Errorf("class %d takes %v, want %v", class, got, want)
		}
	}
	if got := p.first(1).median; got < 0.15 || got > 3.5 {
		t.Errorf("a class without samples takes %v, want something of the others", got)
	}
	if got := p.first(anyClass); got.p95 < 2.5 {
		t.Errorf("95 in 100 of all take %v, want 3", got.p95)
	}
	if p.slow {
		t.Error("two sizes of input make it slow")
	}
	// Whole answers alone stand in for streams.
	q := &pace{}
	for range 5 {
		q.sample(now, wholes, 0, 2*time.Second)
	}
	if q.look(now); q.first(0).median < 1.7 || q.first(0).median > 2.3 {
		t.Errorf("whole answers that take two seconds count as %v", q.first(0))
	}
}

func TestOutputsAreKnownByProjectAndModel(t *testing.T) {
	t.Parallel()
	o := &outputs{}
	if o.expected(1, 1) != 0 {
		t.Error("something is expected of nothing")
	}
	for i := range int64(100) {
		o.add(1, 1, 100+i)
		o.add(2, 1, 1000)
	}
	for project, want := range map[logos.ProjectID]float64{1: 190, 2: 1000, 3: 1000} { // the third: as everybody
		if got := float64(o.expected(project, 1)); got < want/tokens.ratio || got > want*tokens.ratio {
			t.Errorf("answers to project %d are %v at most, want %v", project, got, want)
		}
	}
	if o.expected(1, 2) != 0 {
		t.Error("another model's answers are known")
	}
}

func TestKnownOutputsAreBounded(t *testing.T) {
	t.Parallel()
	o := &outputs{}
	for i := range logos.ProjectID(3 * maxOutputs) {
		o.add(i+1, 1, 10)
		o.add(7, 2, 100) // called all the time
	}
	if n := len(o.now) + len(o.old); n > 2*maxOutputs {
		t.Errorf("%d pairs are known", n)
	}
	if got := o.expected(7, 2); got < 80 || got > 125 {
		t.Errorf("what is called all the time is expected to be %d", got)
	}
}
