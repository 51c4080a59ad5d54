package policy

import (
	"cmp"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// A glance is an atom that looks at one variable of the call: a truth, a text that is or is not a given one, a
// number compared with one, or a list that has a text. Most conditions come down to these. It is evaluated without
// CEL, which gives the same result: a test holds that. Of a request that was read none of them fails.
type glance struct {
	variable int
	kind     types.Kind     // of the variable
	text     string         // to be equal to, or among the list
	number   int64          // to compare with
	order    func(int) bool // of numbers
	not      bool
}

// glance recognises one; nil: it is something else.
func (e *environment) glance(a *ast.AST, expr ast.Expr) *glance {
	if i, ok := e.callVariable(a, expr); ok && a.GetType(expr.ID()).Kind() == types.BoolKind {
		return &glance{variable: i, kind: types.BoolKind}
	}
	if expr.Kind() != ast.CallKind || len(expr.AsCall().Args()) != 2 {
		return nil
	}
	call := expr.AsCall()
	variable, literal := call.Args()[0], call.Args()[1]
	if call.FunctionName() == operators.In {
		variable, literal = literal, variable
	}
	i, ok := e.callVariable(a, variable)
	if !ok || literal.Kind() != ast.LiteralKind {
		return nil
	}
	g := &glance{variable: i, kind: a.GetType(variable.ID()).Kind()}
	if g.against(call.FunctionName(), literal.AsLiteral().Value()) {
		return g
	}
	return nil
}

// against takes what the variable is held against, if that is one of the simple cases.
func (g *glance) against(function string, literal any) (ok bool) {
	switch g.kind {
	case types.StringKind:
		g.text, ok = literal.(string)
		g.not = function == operators.NotEquals
		return ok && (g.not || function == operators.Equals)
	case types.IntKind:
		g.number, ok = literal.(int64)
		order, known := orders(function)
		g.order = order
		return ok && known
	case types.ListKind:
		g.text, ok = literal.(string)
		return ok && function == operators.In
	}
	return false
}

// callVariable returns the index of the variable of request or caller that an expression is.
func (e *environment) callVariable(a *ast.AST, expr ast.Expr) (int, bool) {
	ref := a.ReferenceMap()[expr.ID()]
	if ref == nil || expr.Kind() != ast.IdentKind && expr.Kind() != ast.SelectKind {
		return 0, false
	}
	i, ok := e.index[ref.Name]
	return i, ok && i < numCall
}

// glance evaluates one.
func (v *evaluation) glance(g *glance) truth {
	var holds bool
	switch g.kind {
	case types.ListKind:
		list := v.list(g.variable)
		holds = slices.ContainsFunc(list[:min(len(list), maxListLength)], func(s string) bool { return clip(s, maxNameLength) == g.text })
	default:
		switch x := v.call(g.variable).(type) {
		case types.Bool:
			holds = bool(x)
		case types.String:
			holds = string(x) == g.text
		case types.Int:
			holds = g.order(cmp.Compare(int64(x), g.number))
		}
	}
	if holds != g.not {
		return isTrue
	}
	return isFalse
}

// list returns a list of the request.
func (v *evaluation) list(i int) []string {
	if i == varTags {
		return v.request.Signals.Tags
	}
	return v.request.Signals.Keywords
}
