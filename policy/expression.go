package policy

import (
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// Limits of expressions. The unit of costs is CEL's own: about a step of evaluation, some 20 ns.
const (
	maxTextLength = 256  // bytes of each text that an expression can see
	maxNameLength = 64   // bytes of each item of a list and key of a map
	maxListLength = 64   // items of each list that it can see
	maxMapLength  = 192  // pairs of each map: labels of three resources
	maxExpression = 4096 // code points
	maxCost       = 2500 // of all expressions of a policy together, for one candidate
	// trackedCost is the estimate from which on an expression is also stopped at run time: below, counting
	// would cost more than what it counts.
	trackedCost = 100
)

// A truth is the outcome of an expression. A failed one is neither true nor false.
type truth uint8

const (
	isFalse truth = iota
	isTrue
	failed
)

// An expression is a compiled CEL expression, taken apart at its logical operators. Each part is evaluated
// as rarely as what it speaks of changes: CEL's logic gives the same result in any order, errors included.
type expression struct {
	root  *node
	atoms []atom
	cost  uint64 // at most
	scope scope  // of all parts
}

// An atom is a part without logical operators outermost.
type atom struct {
	program cel.Program
	scope   scope       // scopeStatic or scopeCall alone; everything else is scopeLive
	tracked bool        // its cost is limited at run time
	compare *comparison // instead of the program, if it is one
	glance  *glance     // likewise
}

// A node joins atoms.
type node struct {
	op   op
	kids []*node
	atom int
}

type op uint8

const (
	opAtom op = iota
	opAnd
	opOr
	opNot
	opIf
)

// An environment compiles expressions. It is immutable.
type environment struct {
	cel   *cel.Env
	index map[string]int
}

func newEnvironment() (*environment, error) {
	options := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(50),
		cel.RegexProgramSizeLimit(1000),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateComprehensionNestingLimit(2)),
	}
	for _, v := range table {
		options = append(options, cel.Variable(v.Name, v.typ))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, err
	}
	return &environment{cel: env, index: indexes()}, nil
}

// compile checks and compiles an expression that may speak of the scopes given.
func (e *environment) compile(text string, allowed scope) (*expression, []Problem) {
	checked, issues := e.cel.Compile(text)
	if issues.Err() != nil {
		return nil, problems(text, issues)
	}
	if checked.OutputType() != cel.BoolType {
		return nil, []Problem{{Line: 1, Column: 1, Message: "this is of type " + checked.OutputType().String() + ": it must be true or false"}}
	}
	native := checked.NativeRep()
	if p := e.outside(text, native, allowed); p != nil {
		return nil, []Problem{*p}
	}
	estimate, err := e.cel.EstimateCost(checked, sizes{})
	if err != nil || estimate.Max > maxCost {
		return nil, []Problem{{Line: 1, Column: 1, Message: "this can take too long: use fewer and shorter lists, loops and patterns"}}
	}
	x := &expression{cost: estimate.Max}
	x.root, err = e.split(x, native, native.Expr())
	if err != nil {
		return nil, []Problem{{Line: 1, Column: 1, Message: err.Error()}}
	}
	return x, nil
}

// outside reports the first variable that the expression must not speak of.
func (e *environment) outside(text string, a *ast.AST, allowed scope) (found *Problem) {
	for id, ref := range a.ReferenceMap() {
		i, ok := e.index[ref.Name]
		if !ok || table[i].scope&allowed != 0 {
			continue
		}
		at := a.SourceInfo().GetStartLocation(id)
		_, column := nameAt(text, at.Line(), at.Column()+1)
		if found == nil || at.Line() < found.Line || at.Line() == found.Line && column < found.Column {
			found = &Problem{Line: at.Line(), Column: column, Message: ref.Name + " can't be used here: a condition is decided before the candidates are looked at, from request and caller alone"}
		}
	}
	return found
}

// split takes an expression apart.
func (e *environment) split(x *expression, a *ast.AST, expr ast.Expr) (*node, error) {
	if expr.Kind() == ast.CallKind {
		call := expr.AsCall()
		if op, ok := logical(call.FunctionName()); ok {
			n := &node{op: op}
			for _, arg := range call.Args() {
				kid, err := e.split(x, a, arg)
				if err != nil {
					return nil, err
				}
				n.kids = append(n.kids, kid)
			}
			if op == opAnd || op == opOr { // what needs no evaluation first
				slices.SortStableFunc(n.kids, func(l, r *node) int { return int(x.scopeOf(l)&scopeLive) - int(x.scopeOf(r)&scopeLive) })
			}
			return n, nil
		}
	}
	return e.atom(x, a, expr)
}

func logical(function string) (op, bool) {
	switch function {
	case operators.LogicalAnd:
		return opAnd, true
	case operators.LogicalOr:
		return opOr, true
	case operators.LogicalNot:
		return opNot, true
	case operators.Conditional:
		return opIf, true
	}
	return opAtom, false
}

// atom plans a part as a program of its own.
func (e *environment) atom(x *expression, a *ast.AST, expr ast.Expr) (*node, error) {
	part := ast.NewCheckedAST(ast.NewAST(expr, a.SourceInfo()), a.TypeMap(), a.ReferenceMap())
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	estimate, err := checker.Cost(part, sizes{})
	if err != nil {
		return nil, err
	}
	tracked := estimate.Max > trackedCost
	if tracked {
		options = append(options, cel.CostLimit(maxCost))
	}
	program, err := e.cel.PlanProgram(part, options...)
	if err != nil {
		return nil, err
	}
	s := e.scopeOf(a, expr)
	x.scope |= s
	switch s {
	case 0: // a constant
		s = scopeStatic
	case scopeStatic, scopeCall:
	default:
		s = scopeLive
	}
	out := atom{program: program, scope: s, tracked: tracked}
	switch s {
	case scopeCall:
		out.glance = e.glance(a, expr)
	case scopeLive:
		if out.compare, err = e.comparison(a, expr); err != nil {
			return nil, err
		}
	}
	x.atoms = append(x.atoms, out)
	return &node{atom: len(x.atoms) - 1}, nil
}

// scopeOf returns of what a part speaks.
func (e *environment) scopeOf(a *ast.AST, expr ast.Expr) (s scope) {
	ast.PostOrderVisit(expr, ast.NewExprVisitor(func(x ast.Expr) {
		if ref := a.ReferenceMap()[x.ID()]; ref != nil {
			if i, ok := e.index[ref.Name]; ok {
				s |= table[i].scope
			}
		}
	}))
	return s
}

func (x *expression) scopeOf(n *node) scope {
	if n.op == opAtom {
		return x.atoms[n.atom].scope
	}
	var s scope
	for _, kid := range n.kids {
		s |= x.scopeOf(kid)
	}
	return s
}

// sizes tells CEL's estimate how long the texts and lists are that expressions can see.
type sizes struct{}

func (sizes) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	if len(element.Path()) == 0 {
		return nil // a result: CEL knows its size, or nobody does
	}
	switch element.Type().Kind() {
	case types.StringKind:
		if last := element.Path()[len(element.Path())-1]; last == "@items" || last == "@keys" {
			return &checker.SizeEstimate{Max: maxNameLength}
		}
		return &checker.SizeEstimate{Max: maxTextLength}
	case types.ListKind:
		return &checker.SizeEstimate{Max: maxListLength}
	case types.MapKind:
		return &checker.SizeEstimate{Max: maxMapLength}
	}
	return nil
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
