package policy

import (
	"cmp"
	"slices"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// An objective is compiled: its weights add up to 1, or are all 0.
type objective struct {
	logos.Objective
	costScale    float64 // units of the currency
	latencyScale float64 // seconds
}

// A score is what a candidate is worth, by component. It depends on the candidate and the call alone, never
// on the other candidates: so one more candidate can't turn two others around.
type score struct {
	total                        float64
	cost, latency, quality, load float64 // utilities, 0 to 1
	session, prefix, held        float64 // bonuses
}

// unknownUtility stands for what is not measured yet: as good as something at the scale.
const unknownUtility = 0.5

func newObjective(o *logos.Objective) *objective {
	if o == nil {
		return nil
	}
	out := &objective{Objective: *o, costScale: 0.01, latencyScale: 1}
	if picos, _ := picosOf(o.CostScale.Amount, decimal.Decimal.Floor); picos > 0 {
		out.costScale = units(picos)
	}
	if o.LatencyScale > 0 {
		out.latencyScale = o.LatencyScale.Seconds()
	}
	if sum := o.Cost + o.Latency + o.Quality + o.Load; sum > 0 {
		out.Cost, out.Latency, out.Quality, out.Load = o.Cost/sum, o.Latency/sum, o.Quality/sum, o.Load/sum
	}
	return out
}

// score rates a candidate.
func (o *objective) score(c *candidate, r *Request, tasks []string) score {
	s := score{latency: unknownUtility, load: 1 - min(max(c.state.Load, 0), 1)}
	if c.priced() && (o.CostScale.Currency == "" || o.CostScale.Currency == c.state.Rates.Currency) {
		s.cost = o.costScale / (o.costScale + units(c.cost))
	}
	if t := cmp.Or(c.state.FirstToken, c.state.FirstTokenP95); t > 0 {
		s.latency = o.latencyScale / (o.latencyScale + t.Seconds())
	}
	if c.facts != nil {
		if q := c.facts.qualityFor(tasks); q >= 0 { // what is not declared is not claimed
			s.quality = q
		}
	}
	id := c.Deployment.ID
	s.session = o.SessionBonus * affinity(id, r.SessionDeployment, r.SessionHash)
	s.prefix = o.PrefixBonus * affinity(id, r.PrefixServed, r.PrefixHash)
	if id == r.Incumbent && id != 0 {
		s.held = o.Hysteresis
	}
	s.total = o.Cost*s.cost + o.Latency*s.latency + o.Quality*s.quality + o.Load*s.load + s.session + s.prefix + s.held
	return s
}

// affinity returns how much a deployment is where a session or prompt belongs: where it was, if that is
// known; else where its hash leads, by rendezvous, so that gateways agree without talking.
func affinity(id, served logos.DeploymentID, hash uint64) float64 {
	switch {
	case served != 0 && id == served:
		return 1
	case served != 0 || hash == 0:
		return 0
	}
	return draw(hash, uint64(id))
}

// sort orders the eligible candidates, the best first, and says what put the first one there if not its
// score.
func (x *scratch) sort(o *objective, by logos.PolicyID, r *Request) string {
	for i := range x.candidates {
		if c := &x.candidates[i]; !c.excluded() && !c.twin {
			x.order = append(x.order, i)
		}
	}
	if o == nil || len(x.order) == 0 {
		return ""
	}
	for _, i := range x.order {
		c := &x.candidates[i]
		c.score = o.score(c, r, x.tasks)
	}
	slices.SortFunc(x.order, func(a, b int) int {
		return cmp.Or(cmp.Compare(x.candidates[b].score.total, x.candidates[a].score.total), cmp.Compare(a, b))
	})
	chosen, stable := x.canaries(o, by, r.Seed)
	switch {
	case chosen:
		return logos.FirstCanary
	case x.explore(o, r.Seed, stable):
		return logos.FirstExplore
	case x.spread(o, r.Seed, stable):
		return logos.FirstSpread
	}
	return ""
}

// canaries puts the canary whose share the call belongs to first, and the others last. It returns how many
// candidates stand before the last ones.
func (x *scratch) canaries(o *objective, by logos.PolicyID, seed uint64) (chosen bool, stable int) {
	stable = len(x.order)
	if len(o.Canaries) == 0 {
		return false, stable
	}
	at, assigned := 100*draw(seed, mix(uint64(by)^saltCanary)), -1
	for i, sum := 0, 0.0; i < len(o.Canaries); i++ {
		if sum += o.Canaries[i].Percent; at < sum {
			assigned = i
			break
		}
	}
	place := func(i int) int { // 0: chosen; 1: no canary; 2: a canary of other calls
		place := 1
		for n := range o.Canaries {
			switch {
			case !x.candidates[i].isOf(o.Canaries[n].Targets):
			case n == assigned:
				return 0
			default:
				place = 2
			}
		}
		return place
	}
	slices.SortStableFunc(x.order, func(a, b int) int { return cmp.Compare(place(a), place(b)) })
	for stable > 0 && place(x.order[stable-1]) == 2 {
		stable--
	}
	return place(x.order[0]) == 0, stable
}

func (c *candidate) isOf(t logos.Targets) bool {
	return c.facts != nil && deniedBy(t, c.facts)
}

// explore puts one of those of which too little is known first, in the share of calls that is set.
func (x *scratch) explore(o *objective, seed uint64, stable int) bool {
	if o.Exploration == 0 || draw(seed, saltExplore) >= o.Exploration {
		return false
	}
	best, at := -1.0, 0
	for n, i := range x.order[:stable] {
		if c := &x.candidates[i]; c.state.Stale {
			if d := draw(seed, mix(uint64(c.Deployment.ID)^saltExplore)); d > best {
				best, at = d, n
			}
		}
	}
	return best >= 0 && x.toFront(at)
}

// spread draws two of those that are as good as the first, and puts the less loaded one first.
func (x *scratch) spread(o *objective, seed uint64, stable int) bool {
	near := 1
	for near < stable && x.candidates[x.order[0]].score.total-x.candidates[x.order[near]].score.total < o.Tolerance {
		near++
	}
	if near < 2 || stable < 2 {
		return false
	}
	first, second := -1, -1
	var high, next float64
	for n := range near {
		d := draw(seed, mix(uint64(x.candidates[x.order[n]].Deployment.ID)^saltSpread))
		switch {
		case first < 0 || d > high:
			first, second, high, next = n, first, d, high
		case second < 0 || d > next:
			second, next = n, d
		}
	}
	if x.candidates[x.order[second]].state.Load < x.candidates[x.order[first]].state.Load {
		first = second
	}
	return x.toFront(first)
}

// toFront moves the candidate at a place of the order to its front, and says whether that changed it.
func (x *scratch) toFront(at int) bool {
	i := x.order[at]
	copy(x.order[1:at+1], x.order[:at])
	x.order[0] = i
	return at > 0
}

// What chance is used for.
const (
	saltCanary  = 0x63616e617279
	saltExplore = 0x6578706c6f7265
	saltSpread  = 0x737072656164
)

// Seed makes a seed of a call's id.
func Seed(id logos.CallID) uint64 { return Hash(string(id)) }

// Hash returns the hash of a session or of how a prompt begins: the same on every gateway; never 0.
func Hash[T string | []byte](s T) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return max(mix(h), 1)
}

// draw returns a number from 0 to below 1 that depends on both its arguments.
func draw(seed, salt uint64) float64 { return float64(mix(seed^mix(salt))>>11) / (1 << 53) }

// mix is the finalizer of splitmix64.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// lengthOf sorts inputs by their length in tokens.
func lengthOf(tokens int64) string {
	switch {
	case tokens < 500:
		return "short"
	case tokens < 4000:
		return "medium"
	case tokens < 32000:
		return "long"
	}
	return "very_long"
}
