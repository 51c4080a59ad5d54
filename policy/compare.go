package policy

import (
	"math"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// A comparison is an atom that compares a number of the candidate with one that is the same for all
// candidates, or with another number of the candidate: what most rules come down to. It is evaluated
// without CEL, which gives the same result: a test holds that.
type comparison struct {
	order       func(order int) bool
	left, right operand
}

// An operand is one side of a comparison.
type operand struct {
	variable int         // -1: the program
	program  cel.Program // depends on the call alone
	double   bool        // it is a double; else an int or a duration
}

// A number is the value of an operand.
type number struct {
	known bool
	i     int64 // of ints and durations
	f     float64
}

// comparison recognises one; nil: it is something else.
func (e *environment) comparison(a *ast.AST, expr ast.Expr) (*comparison, error) {
	if expr.Kind() != ast.CallKind || len(expr.AsCall().Args()) != 2 {
		return nil, nil
	}
	call := expr.AsCall()
	left, right := call.Args()[0], call.Args()[1]
	order, ok := orders(call.FunctionName())
	if !ok || a.GetType(left.ID()).Kind() != a.GetType(right.ID()).Kind() {
		return nil, nil
	}
	c := &comparison{order: order}
	for _, side := range []struct {
		to   *operand
		from ast.Expr
	}{{&c.left, left}, {&c.right, right}} {
		found, err := e.operand(a, side.from, side.to)
		if !found || err != nil {
			return nil, err
		}
	}
	return c, nil
}

// orders returns what an operator makes of an order: -1, 0 or 1. Equality is left to CEL.
func orders(function string) (func(int) bool, bool) {
	switch function {
	case operators.Less:
		return func(o int) bool { return o < 0 }, true
	case operators.LessEquals:
		return func(o int) bool { return o <= 0 }, true
	case operators.Greater:
		return func(o int) bool { return o > 0 }, true
	case operators.GreaterEquals:
		return func(o int) bool { return o >= 0 }, true
	}
	return nil, false
}

func (e *environment) operand(a *ast.AST, expr ast.Expr, to *operand) (bool, error) {
	switch a.GetType(expr.ID()).Kind() {
	case types.DoubleKind:
		to.double = true
	case types.IntKind, types.DurationKind:
	default:
		return false, nil
	}
	to.variable = -1
	if ref := a.ReferenceMap()[expr.ID()]; ref != nil && (expr.Kind() == ast.IdentKind || expr.Kind() == ast.SelectKind) {
		if i, ok := e.index[ref.Name]; ok && i >= numCall {
			to.variable = i
			return true, nil
		}
	}
	if e.scopeOf(a, expr)&^scopeCall != 0 {
		return false, nil
	}
	var err error
	to.program, err = e.cel.PlanProgram(ast.NewCheckedAST(ast.NewAST(expr, a.SourceInfo()), a.TypeMap(), a.ReferenceMap()), cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	return true, err
}

// compare evaluates a comparison whose operands that depend on the call stand in numbers.
func (v *evaluation) compare(c *comparison, numbers []number) truth {
	l, r := v.number(&c.left, &numbers[0]), v.number(&c.right, &numbers[1])
	if !l.known || !r.known {
		return failed
	}
	order := 0
	switch {
	case c.left.double && l.f < r.f, !c.left.double && l.i < r.i:
		order = -1
	case c.left.double && l.f > r.f, !c.left.double && l.i > r.i:
		order = 1
	}
	if c.order(order) {
		return isTrue
	}
	return isFalse
}

func (v *evaluation) number(o *operand, call *number) number {
	switch {
	case o.program != nil:
		return *call
	case o.variable >= numConfigured:
		return v.live.number(o.variable)
	}
	return v.facts.numbers[o.variable-numCall]
}

// number returns what is measured.
func (c *candidate) number(i int) number {
	switch i {
	case varGrantedBy:
		return number{known: true, i: int64(c.profile.ID)}
	case varCost:
		return number{known: c.priced(), f: units(c.cost)}
	case varFirstToken:
		return number{known: c.state.FirstTokenP95 != 0, i: int64(c.state.FirstTokenP95)}
	default:
		return number{known: true, f: c.state.Load}
	}
}

// fixed evaluates an operand that is the same for all candidates.
func (v *evaluation) fixed(o *operand) number {
	if o.program == nil {
		return number{}
	}
	out, _, err := o.program.Eval(v)
	if err != nil {
		return number{}
	}
	return numberOf(out)
}

// numberOf returns the number in a CEL value.
func numberOf(value any) number {
	switch x := value.(type) {
	case types.Double:
		return number{known: !math.IsNaN(float64(x)), f: float64(x)}
	case types.Int:
		return number{known: true, i: int64(x)}
	case types.Duration:
		return number{known: true, i: int64(x.Duration)}
	}
	return number{}
}
