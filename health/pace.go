package health

import (
	"math"
	"time"
)

// What is measured is the time from the start of an attempt, its connection included, to the first byte of the
// answer's body. Headers alone do not count: some servers send them before they have looked at the prompt. In
// a stream that byte begins the first event, so it stands for the first token. An answer as a whole comes when
// its last token is there, so those are kept apart, and stand in where nothing is known of streams.
const (
	streams = iota
	wholes
	kinds
)

// classes are the sizes of inputs, in tokens, that are measured apart.
const (
	shortInput = 500
	midInput   = 4000
	longInput  = 32000
	classes    = 4
	anyClass   = classes // of an input whose size is not known
)

func classOf(tokens int64) int {
	switch {
	case tokens <= 0:
		return anyClass
	case tokens < shortInput:
		return 0
	case tokens < midInput:
		return 1
	case tokens < longInput:
		return 2
	}
	return 3
}

var (
	// durations, in seconds: from 1 ms to 19 minutes.
	durations = &shape{low: 0.001, ratio: 1.15, buckets: 100}
	// ratios of a time to what is usual.
	ratios = &shape{low: 1.0 / 16, ratio: 1.2, buckets: 48}
)

const (
	paceHalfLife = 45 * time.Second
	// enough samples, decayed, to go by; below it, what is measured is stale.
	enough = 3
	// A target is slow when the median of its recent times is slowFrom times what is usual, until it is below
	// slowUntil again. The median of a few times of a healthy target gets nowhere near.
	slowFrom, slowUntil = 2.5, 1.7
	// enoughRecent is how many recent times the median is of at least.
	enoughRecent = 4
	// Recent times count for recentHalfLife where there are many, for fewHalfLife where there are few.
	recentHalfLife, fewHalfLife = 2 * time.Second, 20 * time.Second
	manyRecent                  = 6
	// slowWeight is what times of a slow target count for what is usual: it takes minutes to become so.
	slowWeight = 0.1
)

// A pace is how fast a target answers: what is usual, by kind and size, in slow histograms, and how much slower
// it is now, in a fast one of ratios to that. So a brown-out shows after a few calls of whatever size, and
// what is usual outlives it.
//
// A pace reads no clock and locks nothing.
type pace struct {
	epoch time.Time // of the histograms' time
	cells [kinds][classes + 1]*histogram
	usual [kinds][classes + 1]spread // as of the last look
	dirty bool

	recent   *histogram
	at       float64   // time of recent, in its half-lives
	looked   time.Time // when at was right
	silent   []float32 // attempts under way without a first byte, by their ratio so far
	waiting  int       // number of them
	slow     bool
	slowness float64   // times what is usual, while slow
	fastFrom time.Time // when trials found it fast again
	trials   trials
}

// A spread is the median and the 95th percentile, in seconds; 0: not known.
type spread struct{ median, p95 float64 }

func (p *pace) time(now time.Time) float64 {
	if p.epoch.IsZero() {
		p.epoch, p.looked = now, now
	}
	return now.Sub(p.epoch).Seconds() / paceHalfLife.Seconds()
}

// sample takes the time of one answer.
func (p *pace) sample(now time.Time, kind, class int, took time.Duration) {
	if ratio := p.ratio(kind, class, took); ratio > 0 {
		p.remember(now, ratio)
	}
	cell := &p.cells[kind][class]
	if *cell == nil {
		*cell = newHistogram(durations)
	}
	weight := 1.0
	if p.slow {
		weight = slowWeight
	}
	(*cell).add(p.time(now), took.Seconds(), weight)
	p.dirty = true
}

// ratio compares a time with what is usual; 0: nothing is.
func (p *pace) ratio(kind, class int, took time.Duration) float64 {
	usual := p.usual[kind][class].median
	if usual <= 0 {
		return 0
	}
	return took.Seconds() / usual
}

func (p *pace) remember(now time.Time, ratio float64) {
	p.advance(now)
	if p.recent == nil {
		p.recent = newHistogram(ratios)
	}
	p.recent.add(p.at, ratio, 1)
}

// advance brings the fast histogram's time up to now.
func (p *pace) advance(now time.Time) {
	p.time(now)
	elapsed := now.Sub(p.looked)
	if elapsed <= 0 {
		return
	}
	halfLife := fewHalfLife
	if p.recent.weight(p.at) > manyRecent {
		halfLife = recentHalfLife
	}
	p.at, p.looked = p.at+elapsed.Seconds()/halfLife.Seconds(), now
}

// wait counts an attempt without a first byte at its ratio so far, instead of at the one before. Below what is
// usual, waiting tells nothing; nor does that of an attempt from before the target was found fast again. It
// returns what to pass as before; 0 is not counted.
func (p *pace) wait(started time.Time, before int, ratio float64) int {
	if started.Before(p.fastFrom) {
		return 0
	}
	if before > 0 {
		p.silent[before-1]--
		p.waiting--
	}
	if ratio < 1 {
		return 0
	}
	if p.silent == nil {
		p.silent = make([]float32, ratios.buckets)
	}
	i := ratios.index(ratio)
	p.silent[i]++
	p.waiting++
	return i + 1
}

// look finds out what is usual and whether the target is slow now. It says whether that has changed.
func (p *pace) look(now time.Time) (turned bool) {
	p.advance(now)
	if p.dirty {
		p.dirty = false
		p.measure(now)
	}
	weight := p.recent.weight(p.at) + float64(p.waiting)
	if weight < enoughRecent {
		return false
	}
	median := p.median()
	was := p.slow
	p.slow = median >= slowFrom || p.slow && median >= slowUntil
	if p.slow {
		p.slowness = median
	}
	if was != p.slow {
		p.trials.turn(now, p.slow)
	}
	return was != p.slow
}

// median returns that of recent ratios and those that are still waiting, which will be no less.
func (p *pace) median() float64 {
	var sum [64]float32
	counts := sum[:ratios.buckets]
	p.recent.merge(counts, p.at)
	for i, n := range p.silent {
		counts[i] += n
	}
	return ratios.quantile(counts, 0.5)
}

// recover ends slowness on the word of trials.
func (p *pace) recover(now time.Time) {
	p.slow, p.recent, p.fastFrom = false, nil, now
	clear(p.silent)
	p.waiting = 0
	p.trials.turn(now, false)
}

// measure finds out what is usual. A size of which there is too little is taken with the others.
func (p *pace) measure(now time.Time) {
	at := p.time(now)
	for kind := range kinds {
		var sum [128]float32
		all := sum[:durations.buckets]
		for _, h := range p.cells[kind] {
			h.merge(all, at)
		}
		pooled := spread{durations.quantile(all, 0.5), durations.quantile(all, 0.95)}
		p.usual[kind][anyClass] = pooled
		for class, h := range p.cells[kind][:classes] {
			p.usual[kind][class] = pooled
			if h.weight(at) >= enough {
				p.usual[kind][class] = spread{h.quantile(0.5), h.quantile(0.95)}
			}
		}
	}
}

// weight returns how many samples of now there are.
func (p *pace) weight(now time.Time) float64 {
	sum, at := 0.0, p.time(now)
	for kind := range kinds {
		for _, h := range p.cells[kind] {
			sum += h.weight(at)
		}
	}
	return sum
}

// first returns the usual time to the first token for inputs of a size.
func (p *pace) first(class int) spread {
	if s := p.usual[streams][class]; s.median > 0 {
		return s
	}
	return p.usual[wholes][class]
}

// patience returns after how much silence an attempt counts as failed: many times what nearly all take, and at
// least tooLong. 0: nothing is known, so only the limits of calls count.
func (p *pace) patience(kind, class int) time.Duration {
	p95 := p.usual[kind][class].p95
	if p95 <= 0 || math.IsInf(p95, 0) {
		return 0
	}
	return max(tooLong, time.Duration(10*p95*float64(time.Second)))
}

const tooLong = 10 * time.Second
