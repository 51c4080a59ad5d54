package policy

import (
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
)

// Each demand of a policy has a bit. A candidate's breaches of a policy are a set of them.
const (
	bitPrivacyZone uint32 = 1 << iota
	bitAccess
	bitLabels
	bitCapabilities
	bitQuality
	bitAccuracy
	bitPriced
	bitMaxCost
	bitFirstToken
	bitRule // the first rule; the next ones follow
)

// constraintBits names the bits but for the rules.
var constraintBits = [...]struct {
	name logos.Constraint
	bit  uint32
}{
	{logos.ConstraintPrivacyZone, bitPrivacyZone}, {logos.ConstraintAccess, bitAccess}, {logos.ConstraintLabels, bitLabels},
	{logos.ConstraintCapabilities, bitCapabilities}, {logos.ConstraintQuality, bitQuality}, {logos.ConstraintAccuracy, bitAccuracy},
	{logos.ConstraintPriced, bitPriced}, {logos.ConstraintMaxCost, bitMaxCost}, {logos.ConstraintFirstToken, bitFirstToken},
}

// A program is a policy, compiled. It is immutable.
type program struct {
	policy    *logos.Policy
	when      *expression // nil: always
	rules     []rule
	atoms     int // of all rules
	limits    []limit
	relax     []uint32 // bits, the first to be dropped first
	objective *objective
}

// A rule is compiled. The atoms of its expressions are numbered through the program.
type rule struct {
	name       string
	bit        uint32
	when       *expression // nil: always
	require    *expression
	whenBase   int
	base       int
	configured bool // depends on the configuration alone
}

// A limit is the most that a call may cost.
type limit struct {
	currency string
	picos    int64
}

// program compiles a policy, or says what is wrong in it.
func (e *environment) program(p *logos.Policy) (*program, []Problem) {
	c := inspection{policy: p}
	c.check()
	if len(c.found) > 0 {
		return nil, c.found
	}
	out := &program{policy: p, objective: newObjective(p.Objective)}
	var cost uint64
	expression := func(field, text string, allowed scope) *expression {
		if text == "" {
			return nil
		}
		x, found := e.compile(text, allowed)
		for _, problem := range found {
			problem.Field = field
			c.found = append(c.found, problem)
		}
		if x != nil {
			cost += x.cost
		}
		return x
	}
	out.when = expression("when", p.When, scopeCall)
	for i, r := range p.Rules {
		x := rule{name: r.Name, bit: bitRule << i}
		x.when = expression(fmt.Sprintf("rules[%d].when", i), r.When, scopeCall)
		x.require = expression(fmt.Sprintf("rules[%d].require", i), r.Require, scopeCall|scopeStatic|scopeLive)
		if len(c.found) > 0 {
			continue
		}
		out.addRule(x)
	}
	if cost > maxCost {
		c.errorf("rules", "together they can take too long: use fewer and shorter lists, loops and patterns")
	}
	if len(c.found) > 0 {
		return nil, c.found
	}
	for _, m := range p.Constraints.MaxCost {
		picos, _ := picosOf(m.Amount, decimal.Decimal.Floor)
		out.limits = append(out.limits, limit{m.Currency, picos})
	}
	for _, name := range p.Relax {
		out.relax = append(out.relax, out.bitOf(name))
	}
	return out, nil
}

func (p *program) addRule(x rule) {
	if x.when != nil {
		x.whenBase, p.atoms = p.atoms, p.atoms+len(x.when.atoms)
	}
	x.base, p.atoms = p.atoms, p.atoms+len(x.require.atoms)
	x.configured = x.when == nil && x.require.scope&^scopeStatic == 0
	p.rules = append(p.rules, x)
}

func (p *program) bitOf(name logos.Constraint) uint32 {
	for _, c := range constraintBits {
		if c.name == name {
			return c.bit
		}
	}
	for _, r := range p.rules {
		if logos.RuleConstraint(r.name) == name {
			return r.bit
		}
	}
	return 0
}

func (p *program) nameOf(bit uint32) logos.Constraint {
	for _, c := range constraintBits {
		if c.bit == bit {
			return c.name
		}
	}
	for _, r := range p.rules {
		if r.bit == bit {
			return logos.RuleConstraint(r.name)
		}
	}
	return ""
}

// A view is what a program says of the deployments of one catalog, as far as that depends on the
// configuration alone.
type view struct {
	breaches []uint32
	failures []uint32  // of these, rules that failed
	static   [][]truth // by atom and deployment; nil: the atom depends on more
}

// view looks at every deployment.
func (p *program) view(e *environment, c *catalog) *view {
	v := &view{breaches: make([]uint32, len(c.facts)), failures: make([]uint32, len(c.facts)), static: make([][]truth, p.atoms)}
	look := evaluation{index: e.index, static: v.static, known: make([]truth, p.atoms), operands: make([]number, 2*p.atoms)}
	defer look.close()
	for i := range p.rules {
		r := &p.rules[i]
		look.fix(r.require, r.base, c)
		if r.when != nil {
			look.fix(r.when, r.whenBase, c)
		}
	}
	for d, f := range c.facts {
		v.breaches[d] = p.configured(f)
		for i := range p.rules {
			r := &p.rules[i]
			if !r.configured {
				continue
			}
			switch look.evaluate(r.require, r.require.root, r.base, d) {
			case isFalse:
				v.breaches[d] |= r.bit
			case failed:
				v.breaches[d], v.failures[d] = v.breaches[d]|r.bit, v.failures[d]|r.bit
			}
		}
	}
	return v
}

// fix evaluates those atoms of an expression that depend on the configuration alone, for each deployment.
func (v *evaluation) fix(x *expression, base int, c *catalog) {
	for i := range x.atoms {
		a := &x.atoms[i]
		if a.scope != scopeStatic {
			continue
		}
		out := make([]truth, len(c.facts))
		for d, f := range c.facts {
			v.facts = f
			out[d] = v.run(a)
		}
		v.static[base+i] = out
	}
}

// configured returns the breaches of constraints that depend on the configuration alone.
func (p *program) configured(f *facts) (breaches uint32) {
	c := &p.policy.Constraints
	if !f.provider.PrivacyZone.Within(c.MaxPrivacyZone) {
		breaches |= bitPrivacyZone
	}
	if deniedBy(c.Deny, f) || !allowedBy(c.Allow, f) {
		breaches |= bitAccess
	}
	if brokenLabel(c.Labels, f) != nil {
		breaches |= bitLabels
	}
	if missing(c.Capabilities, f) != "" {
		breaches |= bitCapabilities
	}
	if c.MinQuality > 0 && !(f.quality >= c.MinQuality) {
		breaches |= bitQuality
	}
	if c.MinAccuracy > 0 && !(f.accuracy >= c.MinAccuracy) {
		breaches |= bitAccuracy
	}
	return breaches
}

func deniedBy(t logos.Targets, f *facts) bool {
	return slices.Contains(t.Models, f.model.ID) || slices.Contains(t.Providers, f.provider.ID) || slices.Contains(t.Deployments, f.deployment.ID)
}

func allowedBy(t logos.Targets, f *facts) bool {
	return (t.Models == nil || slices.Contains(t.Models, f.model.ID)) &&
		(t.Providers == nil || slices.Contains(t.Providers, f.provider.ID)) &&
		(t.Deployments == nil || slices.Contains(t.Deployments, f.deployment.ID))
}

// brokenLabel returns the first requirement that a deployment's labels don't meet.
func brokenLabel(requirements []logos.LabelRequirement, f *facts) *logos.LabelRequirement {
	for i := range requirements {
		r := &requirements[i]
		value, found := f.labels[r.Label]
		var ok bool
		switch r.Operator {
		case logos.LabelIn:
			ok = found && slices.Contains(r.Values, value)
		case logos.LabelNotIn:
			ok = !found || !slices.Contains(r.Values, value)
		case logos.LabelExists:
			ok = found
		case logos.LabelNotExists:
			ok = !found
		}
		if !ok {
			return r
		}
	}
	return nil
}

// missing returns the first of the capabilities that the model does not declare.
func missing(capabilities []string, f *facts) string {
	for _, name := range capabilities {
		if !slices.Contains(f.model.Capabilities, name) {
			return name
		}
	}
	return ""
}
