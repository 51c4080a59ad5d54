package policy

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

// An evaluation evaluates expressions for one call. It is CEL's activation too: it makes values of what is
// asked for, when it is asked.
type evaluation struct {
	index   map[string]int
	request *Request
	unread  bool // nothing is known of the request
	caller  *Caller
	values  [numCall]ref.Val // of request and caller, made when first asked for

	facts *facts     // of the present candidate; nil: none
	live  *candidate // what is measured of it; nil: not to be asked

	frame *interpreter.ExecutionFrame // around this evaluation; nil: not needed yet

	known    []truth   // of the present policy's atoms that depend on the call alone
	operands []number  // of their operands, two for each atom
	static   [][]truth // of its atoms that depend on the configuration alone, by deployment
}

// ResolveName returns the value of a variable.
func (v *evaluation) ResolveName(name string) (any, bool) {
	i, ok := v.index[name]
	switch {
	case !ok:
		return nil, false
	case i < numCall:
		return v.call(i), true
	case i < numConfigured && v.facts != nil:
		return v.facts.values[i-numCall], true
	case i >= numConfigured && v.live != nil:
		return v.live.value(i), true
	}
	return nil, false
}

// call returns the value of a variable of request or caller.
func (v *evaluation) call(i int) ref.Val {
	if v.values[i] == nil {
		v.values[i] = v.callValue(i)
	}
	return v.values[i]
}

// Parent returns nil.
func (v *evaluation) Parent() cel.Activation { return nil }

// callValue makes a CEL value of the request or the caller.
func (v *evaluation) callValue(i int) ref.Val {
	r, c := v.request, v.caller
	if v.unread && (i < varTeamID || i == varEndUser && !c.HasEndUser) { // the body may name one
		return unknown(i)
	}
	switch i {
	case varAPI:
		return types.String(r.API)
	case varModel:
		return text(r.Name)
	case varStream:
		return types.Bool(r.Stream)
	case varTools:
		return types.Bool(r.Tools)
	case varImages:
		return types.Bool(r.Images)
	case varJSONSchema:
		return types.Bool(r.JSONSchema)
	case varInputTokens:
		return types.Int(r.InputTokens)
	case varMaxTokens:
		return types.Int(r.MaxTokens)
	case varLength:
		return types.String(lengthOf(r.InputTokens))
	case varLanguage:
		return text(r.Signals.Language)
	case varCode:
		return types.Bool(r.Signals.Code)
	case varKeywords:
		return texts(r.Signals.Keywords)
	case varTags:
		return texts(r.Signals.Tags)
	}
	return c.value(i)
}

func (c *Caller) value(i int) ref.Val {
	switch i {
	case varTeamID:
		return types.Int(c.Team)
	case varTeam:
		return text(c.TeamName)
	case varProjectID:
		return types.Int(c.Project)
	case varProject:
		return text(c.ProjectName)
	case varProfileID:
		return types.Int(c.Profile)
	case varProfile:
		return text(c.ProfileName)
	case varKeyID:
		return types.Int(c.Key)
	case varKey:
		return text(c.KeyName)
	case varCallerLabels:
		return textMap(c.Labels)
	default:
		return types.Bool(c.HasEndUser)
	}
}

// value makes a CEL value of what is measured.
func (c *candidate) value(i int) ref.Val {
	switch i {
	case varGrantedBy:
		return types.Int(c.profile.ID)
	case varPriced:
		return types.Bool(c.priced())
	case varCurrency:
		if !c.priced() {
			return unknown(i)
		}
		return text(c.state.Rates.Currency)
	case varCost:
		if !c.priced() {
			return unknown(i)
		}
		return types.Double(units(c.cost))
	case varFirstToken:
		if c.state.FirstTokenP95 == 0 {
			return unknown(i)
		}
		return types.Duration{Duration: c.state.FirstTokenP95}
	default:
		return types.Double(c.state.Load)
	}
}

// unknown is the value of what is not known: an error, unless the rest of the expression decides.
func unknown(i int) ref.Val { return types.NewErr("%s is not known", table[i].Name) }

func text(s string) types.String { return types.String(clip(s, maxTextLength)) }

// clip keeps texts within what the costs of expressions were estimated for.
func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

func texts(list []string) ref.Val {
	values := make([]ref.Val, 0, len(list))
	for _, s := range list[:min(len(list), maxListLength)] {
		values = append(values, types.String(clip(s, maxNameLength)))
	}
	return types.NewRefValList(types.DefaultTypeAdapter, values)
}

// evaluate returns the truth of an expression for the deployment with that index. The atoms of an
// expression stand in known and static from its base on.
func (v *evaluation) evaluate(x *expression, n *node, base, deployment int) truth {
	switch n.op {
	case opAnd:
		return v.join(x, n, base, deployment, isFalse)
	case opOr:
		return v.join(x, n, base, deployment, isTrue)
	case opNot:
		if t := v.evaluate(x, n.kids[0], base, deployment); t != failed {
			return isTrue - t
		}
		return failed
	case opIf:
		switch v.evaluate(x, n.kids[0], base, deployment) {
		case isTrue:
			return v.evaluate(x, n.kids[1], base, deployment)
		case isFalse:
			return v.evaluate(x, n.kids[2], base, deployment)
		}
		return failed
	}
	a := &x.atoms[n.atom]
	switch {
	case a.scope == scopeCall:
		return v.known[base+n.atom]
	case a.scope == scopeStatic && v.static != nil && deployment >= 0:
		return v.static[base+n.atom][deployment]
	case a.compare != nil && v.facts != nil && v.live != nil:
		return v.compare(a.compare, v.operands[2*(base+n.atom):])
	}
	return v.run(a)
}

// join evaluates "and", which one false decides, and "or", which one true decides, whatever fails.
func (v *evaluation) join(x *expression, n *node, base, deployment int, decisive truth) truth {
	out := isTrue - decisive
	for _, kid := range n.kids {
		switch t := v.evaluate(x, kid, base, deployment); t {
		case decisive:
			return decisive
		case failed:
			out = failed
		}
	}
	return out
}

// run evaluates an atom. What is not tracked keeps no state in its frame, so that all share one.
func (v *evaluation) run(a *atom) truth {
	var input any = v
	if !a.tracked {
		if v.frame == nil {
			v.frame, _ = interpreter.NewExecutionFrame(v) // fails for other types alone
		}
		input = v.frame
	}
	out, _, err := a.program.Eval(input)
	switch {
	case err != nil:
		return failed
	case out == types.True:
		return isTrue
	case out == types.False:
		return isFalse
	}
	return failed
}

// close gives the frame back.
func (v *evaluation) close() {
	if v.frame != nil {
		v.frame.Close()
	}
	*v = evaluation{known: v.known, operands: v.operands}
}

// prepare evaluates the parts of an expression that depend on the call alone, into known from base on.
func (v *evaluation) prepare(x *expression, base int) {
	for i := range x.atoms {
		a := &x.atoms[i]
		switch {
		case a.glance != nil && !v.unread:
			v.known[base+i] = v.glance(a.glance)
		case a.scope == scopeCall:
			v.known[base+i] = v.run(a)
		}
		if a.compare != nil {
			v.operands[2*(base+i)], v.operands[2*(base+i)+1] = v.fixed(&a.compare.left), v.fixed(&a.compare.right)
		}
	}
}
