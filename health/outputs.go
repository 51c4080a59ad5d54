package health

import (
	"sync"

	"github.com/ls1intum/edutelligence/logos"
)

var tokens = &shape{low: 1, ratio: 1.25, buckets: 64}

const (
	outputHalfLife = 200 // calls
	outputQuantile = 0.9
	enoughOutputs  = 10
	// maxOutputs bounds the pairs that are known, in each of two generations.
	maxOutputs = 4096
)

// outputs knows how long answers are, by project and model. Where too little is known of a project, it goes by
// all of them. Pairs that are not called any more give way to others.
type outputs struct {
	mu       sync.RWMutex
	now, old map[outputKey]*output
}

type outputKey struct {
	project logos.ProjectID // 0: all
	model   logos.ModelID
}

type output struct {
	lengths  *histogram
	calls    float64 // counted: the time of lengths, in its half-lives
	expected int64   // 0: not known
}

// expected returns how many tokens most answers have at most; 0: not known.
func (o *outputs) expected(project logos.ProjectID, model logos.ModelID) int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, key := range [2]outputKey{{project, model}, {0, model}} {
		if x := o.find(key); x != nil && x.expected > 0 {
			return x.expected
		}
	}
	return 0
}

func (o *outputs) find(key outputKey) *output {
	if x := o.now[key]; x != nil {
		return x
	}
	return o.old[key]
}

// add takes the length of an answer.
func (o *outputs) add(project logos.ProjectID, model logos.ModelID, n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range [2]outputKey{{project, model}, {0, model}} {
		x := o.find(key)
		if x == nil {
			x = &output{lengths: newHistogram(tokens)}
		}
		o.keep(key, x)
		x.calls += 1.0 / outputHalfLife
		x.lengths.add(x.calls, float64(n), 1)
		if x.lengths.weight(x.calls) >= enoughOutputs {
			x.expected = max(1, int64(x.lengths.quantile(outputQuantile)+0.5))
		}
	}
}

// keep puts a pair into the present generation. When that is full, it becomes the old one, and what of that was
// not called since is forgotten.
func (o *outputs) keep(key outputKey, x *output) {
	if o.now[key] == x {
		return
	}
	if o.now == nil || len(o.now) >= maxOutputs {
		o.now, o.old = make(map[outputKey]*output), o.now
	}
	o.now[key] = x
}
