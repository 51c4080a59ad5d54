package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.einride.tech/aip/filtering"
	expr "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"github.com/ls1intum/edutelligence/logos"
)

// Bounds of one filter.
const (
	maxFilterParts  = 50 // comparisons
	maxFilterTokens = 1000
	maxFilterDepth  = 32 // parentheses
	maxFilterDots   = 3  // in a row; the checker takes the third power of their number in time
)

// filterTypes maps field types to those of filters.
var filterTypes = map[fieldType]*expr.Type{
	integer: filtering.TypeInt, text: filtering.TypeString, boolean: filtering.TypeBool, number: filtering.TypeFloat,
	moment: filtering.TypeTimestamp, texts: filtering.TypeList(filtering.TypeString),
}

// declarations returns what a filter over the kind may name.
func (k *Kind) declarations() (*filtering.Declarations, error) {
	options := []filtering.DeclarationOption{
		filtering.DeclareStandardFunctions(),
		filtering.DeclareIdent("true", filtering.TypeBool), filtering.DeclareIdent("false", filtering.TypeBool),
	}
	for _, f := range k.all() {
		if t := filterTypes[f.is]; t != nil {
			options = append(options, filtering.DeclareIdent(f.name, t))
		}
	}
	if !k.bare {
		options = append(options, filtering.DeclareIdent("labels", filtering.TypeMap(filtering.TypeString, filtering.TypeString)))
	}
	d, err := filtering.NewDeclarations(options...)
	if err != nil {
		return nil, fmt.Errorf("declare the filter of a %s: %w", k.Name, err)
	}
	return d, nil
}

// filterSQL turns a filter in the syntax of AIP-160 into a condition; its values become arguments.
func (k *Kind) filterSQL(filter string, args *arguments) (string, error) {
	if strings.TrimSpace(filter) == "" {
		return "", nil
	}
	known, err := k.declarations()
	if err != nil {
		return "", err
	}
	if err := measure(filter); err != nil {
		return "", err
	}
	parsed, err := filtering.ParseFilterString(filter, known)
	if err != nil {
		return "", badFilter("%s; fields: %s", explain(err), strings.Join(k.filterable(), ", "))
	}
	t := transpiler{kind: k, args: args}
	condition, err := t.boolean(parsed.CheckedExpr.GetExpr())
	if err != nil {
		return "", err
	}
	return condition, nil
}

func badFilter(format string, args ...any) error {
	return logos.Errorf(logos.Invalid, "invalid_filter", format, args...)
}

// measure refuses a filter that would be dear to parse.
func measure(filter string) error {
	var lexer filtering.Lexer
	lexer.Init(filter)
	depth, dots := 0, 0
	var last filtering.TokenType
	for n := 0; ; n++ {
		token, err := lexer.Lex()
		if err != nil {
			return nil // the end, or what the parser says better
		}
		switch {
		case token.Type == filtering.TokenTypeLeftParen:
			depth++
		case token.Type == filtering.TokenTypeRightParen:
			depth--
		case token.Type == filtering.TokenTypeDot:
			dots++
		case last != filtering.TokenTypeDot:
			dots = 0
		}
		last = token.Type
		if n > maxFilterTokens || depth > maxFilterDepth || dots > maxFilterDots {
			return badFilter("it is nested too deeply or too long: at most %d comparisons, %d parentheses in one another", maxFilterParts, maxFilterDepth)
		}
	}
}

// explain says in one line what is wrong with a filter.
func explain(err error) string {
	type positioned interface {
		error
		Position() filtering.Position
		Message() string
	}
	if inner, ok := errors.AsType[positioned](err); ok {
		for next, ok := inner, true; ok; next, ok = errors.AsType[positioned](errors.Unwrap(inner)) {
			inner = next
		}
		message := inner.Message()
		if message == "parse token" {
			message = "it ends too early"
		}
		return fmt.Sprintf("at character %d: %.200s", inner.Position().Column, message)
	}
	text := err.Error()
	for _, noise := range []string{"check call expr: ", "check select expr: "} {
		text = strings.ReplaceAll(text, noise, "")
	}
	for part, meaning := range map[string]string{
		"non-bool result":      "it must compare something: name = \"x\"",
		"undeclared function":  "comparisons are joined by AND or OR, and there is no function but timestamp(\"…\")",
		"no matching overload": "the two sides don't fit together: texts stand with texts in quotes, numbers with numbers, times with \"2026-01-31T12:00:00Z\", in lists and labels one looks with ':'",
		"unsupported operand":  "only labels have parts: labels.<name>",
	} {
		if strings.Contains(text, part) {
			return meaning
		}
	}
	if name, ok := strings.CutPrefix(text, "undeclared identifier "); ok {
		return fmt.Sprintf("there is no field %.64s; texts stand in quotes", name)
	}
	return fmt.Sprintf("%.200s", text)
}

func (k *Kind) filterable() (names []string) {
	for _, f := range k.all() {
		if filterTypes[f.is] != nil {
			names = append(names, f.name)
		}
	}
	if !k.bare {
		names = append(names, "labels.<name>")
	}
	return names
}

// A transpiler writes one filter as SQL.
type transpiler struct {
	kind  *Kind
	args  *arguments
	parts int
}

var comparisons = map[string]string{
	filtering.FunctionEquals: "=", filtering.FunctionNotEquals: "<>", filtering.FunctionLessThan: "<", filtering.FunctionLessEquals: "<=",
	filtering.FunctionGreaterThan: ">", filtering.FunctionGreaterEquals: ">=",
}

func (t *transpiler) boolean(e *expr.Expr) (string, error) {
	call := e.GetCallExpr()
	if call == nil { // a boolean field alone
		v, err := t.value(e)
		return v, err
	}
	args := call.GetArgs()
	switch f := call.GetFunction(); f {
	case filtering.FunctionAnd, filtering.FunctionFuzzyAnd, filtering.FunctionOr:
		word := " and "
		if f == filtering.FunctionOr {
			word = " or "
		}
		return t.join(word, args)
	case filtering.FunctionNot:
		inner, err := t.join("", args)
		return "not coalesce(" + inner + ", false)", err // what is not there is not equal either
	case filtering.FunctionHas:
		return t.has(args)
	default:
		op, ok := comparisons[f]
		if !ok || len(args) != 2 {
			return "", badFilter("%.40q can't be used here", f)
		}
		return t.compare(op, args[0], args[1])
	}
}

func (t *transpiler) join(word string, args []*expr.Expr) (string, error) {
	parts := make([]string, len(args))
	for i, a := range args {
		var err error
		if parts[i], err = t.boolean(a); err != nil {
			return "", err
		}
	}
	return "(" + strings.Join(parts, word) + ")", nil
}

// compare writes plain comparisons, which indexes serve: in a condition, null counts as false.
func (t *transpiler) compare(op string, left, right *expr.Expr) (string, error) {
	if t.parts++; t.parts > maxFilterParts {
		return "", badFilter("at most %d comparisons", maxFilterParts)
	}
	l, err := t.value(left)
	if err != nil {
		return "", err
	}
	if f := t.field(left); f != nil && f.is == moment && right.GetConstExpr() != nil {
		r, err := t.moment(right)
		return l + " " + op + " " + r, err
	}
	r, err := t.value(right)
	return l + " " + op + " " + r, err
}

// has is the operator ":": part of a text, element of a list, name of a label.
func (t *transpiler) has(args []*expr.Expr) (string, error) {
	if t.parts++; t.parts > maxFilterParts || len(args) != 2 {
		return "", badFilter("at most %d comparisons", maxFilterParts)
	}
	l, err := t.value(args[0])
	if err != nil {
		return "", err
	}
	if args[1].GetConstExpr() == nil {
		return "", badFilter("on the right of ':' stands a text in quotes")
	}
	wanted, f := args[1].GetConstExpr().GetStringValue(), t.field(args[0])
	labels := args[0].GetIdentExpr().GetName() == "labels"
	if wanted == "*" && labels {
		return "(" + l + " <> '{}')", nil
	}
	if wanted == "*" {
		return present(l, f)
	}
	r := t.args.add(wanted)
	switch {
	case labels:
		return l + " ? " + r, nil
	case f != nil && f.is == texts:
		return r + " = any (" + l + ")", nil
	case f == nil || f.is == text:
		return "strpos(lower(" + l + "), lower(" + r + ")) > 0", nil
	}
	return "", badFilter("':' is for texts, lists and labels")
}

// present is the condition that a field has a value; f is nil for a label.
func present(expr string, f *field) (string, error) {
	switch {
	case f == nil || f.is == moment:
		return "(" + expr + " is not null)", nil
	case f.is == text:
		return "(coalesce(" + expr + ", '') <> '')", nil
	case f.is == texts:
		return "(cardinality(" + expr + ") > 0)", nil
	}
	return "", badFilter("':*' is for texts, lists, times and labels")
}

func (t *transpiler) field(e *expr.Expr) *field {
	for _, f := range t.kind.all() {
		if f.name == e.GetIdentExpr().GetName() {
			return &f
		}
	}
	return nil
}

func (t *transpiler) value(e *expr.Expr) (string, error) {
	if s := e.GetSelectExpr(); s != nil {
		if s.GetOperand().GetIdentExpr().GetName() != "labels" {
			return "", badFilter("only labels have parts: labels.<name>")
		}
		return "(r.labels ->> " + t.args.add(s.GetField()) + ")", nil
	}
	if call := e.GetCallExpr(); call != nil && call.GetFunction() == filtering.FunctionTimestamp && len(call.GetArgs()) == 1 {
		return t.moment(call.GetArgs()[0])
	}
	if c := e.GetConstExpr(); c != nil {
		return t.constant(c)
	}
	switch name := e.GetIdentExpr().GetName(); name {
	case "true", "false":
		return name, nil
	case "labels":
		return "r.labels", nil
	case "":
		return "", badFilter("fields are compared with values: name = \"x\"")
	}
	if f := t.field(e); f != nil {
		return "(" + f.expr + ")", nil
	}
	return "", badFilter("there is no field %.64q", e.GetIdentExpr().GetName())
}

func (t *transpiler) constant(c *expr.Constant) (string, error) {
	switch c.GetConstantKind().(type) {
	case *expr.Constant_StringValue:
		return t.args.add(c.GetStringValue()) + "::text", nil
	case *expr.Constant_Int64Value:
		return t.args.add(c.GetInt64Value()) + "::bigint", nil
	case *expr.Constant_DoubleValue:
		return t.args.add(c.GetDoubleValue()) + "::double precision", nil
	case *expr.Constant_BoolValue:
		return t.args.add(c.GetBoolValue()) + "::boolean", nil
	}
	return "", badFilter("a value of this kind can't be compared")
}

func (t *transpiler) moment(e *expr.Expr) (string, error) {
	at, err := time.Parse(time.RFC3339, e.GetConstExpr().GetStringValue())
	if err != nil || at.Year() < 1 || at.Year() > 9999 {
		return "", badFilter("times look like \"2026-01-31T12:00:00Z\"")
	}
	return t.args.add(at) + "::timestamptz", nil
}

// arguments are the parameters of a statement.
type arguments []any

// add returns the placeholder of a value.
func (a *arguments) add(v any) string {
	*a = append(*a, v)
	return fmt.Sprintf("$%d", len(*a))
}
