package accesslog

import (
	"math"
	"slices"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/dialect"
)

// samples holds, for each deployment, how many bytes a token took lately where the provider reported its tokens:
// an event of one provider is twice as long as another's, and one has a token where another has five. It is of this
// process alone: until it has seen some calls, estimates are by rules of thumb, and so is the text of an answer that is
// no stream, of which there is a whole or nothing.
type samples map[sampleKey]*sample

type sampleKey struct {
	deployment logos.DeploymentID
	api        logos.API
	stream     bool // of the answer; prompts are the same in both
}

// A sample is the last bytes a token of each, the latest overwriting the oldest.
type sample struct {
	prompts, answers ring
}

const (
	ringSize    = 31
	leastRatios = 5 // of so many a median is worth more than a rule of thumb
	// leastTokens is how many tokens a text must have for its ratio to count: of short ones most bytes are frames.
	leastTokens = 8
)

// maxTokens bounds estimates, whatever providers report.
const maxTokens = 1 << 40

type ring struct {
	ratios [ringSize]float32
	n      int
}

func (r *ring) add(bytes, tokens int64) {
	if tokens >= leastTokens && bytes > 0 {
		r.ratios[r.n%ringSize] = float32(float64(bytes) / float64(tokens))
		r.n++
	}
}

// tokens returns how many tokens so many bytes are, by the median ratio, which a call with a large image does not
// move.
func (r *ring) tokens(bytes int64) (n int64, known bool) {
	if r.n < leastRatios {
		return 0, false
	}
	sorted := r.ratios
	present := sorted[:min(r.n, ringSize)]
	slices.Sort(present)
	return int64(min(math.Round(float64(max(0, bytes))/float64(present[len(present)/2])), maxTokens)), true
}

// of returns the sample of an attempt's target; nil: there is none.
func (s samples) of(d *logos.Decision, a *logos.Attempt, stream bool) *sample {
	return s[sampleKey{a.Target.Deployment, d.API, stream}]
}

// learn takes what a provider reported of a whole answer.
func (s samples) learn(c *logos.Call, a *logos.Attempt, stream bool, u *dialect.Usage) {
	if c.End != logos.EndOK || !u.Reported || u.Partial || a.Target.Deployment == 0 {
		return
	}
	key := sampleKey{a.Target.Deployment, c.Decision.API, stream}
	x := s[key]
	if x == nil {
		x = &sample{}
		s[key] = x
	}
	var prompt, answer int64
	for _, m := range u.Meters {
		switch {
		case m.Meter.Prompt():
			prompt += m.Quantity
		case m.Meter.Tokens():
			answer += m.Quantity
		}
	}
	x.prompts.add(c.Decision.BodyBytes, prompt)
	if stream {
		x.answers.add(c.AnswerBytes, answer)
	}
}

// estimate guesses what an attempt used of which so many bytes of an answer were seen.
func (s samples) estimate(d *logos.Decision, a *logos.Attempt, stream bool, answerBytes int64) []logos.MeterReading {
	readings := dialect.Estimate(d.API, stream, d.BodyBytes, answerBytes)
	if x := s.of(d, a, stream); x != nil {
		if n, known := x.prompts.tokens(d.BodyBytes); known {
			readings[0].Quantity = n
		}
	}
	readings[1].Quantity = s.output(d, a, stream, answerBytes)
	return readings
}

// output guesses the tokens of an answer.
func (s samples) output(d *logos.Decision, a *logos.Attempt, stream bool, answerBytes int64) int64 {
	if x := s.of(d, a, stream); x != nil && d.API != logos.APIEmbeddings {
		if n, known := x.answers.tokens(answerBytes); known {
			return n
		}
	}
	return dialect.Estimate(d.API, stream, d.BodyBytes, answerBytes)[1].Quantity
}
