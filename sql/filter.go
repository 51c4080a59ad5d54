package store

import (
	"fmt"
	"strings"
	"time"

	"go.einride.tech/aip/filtering"
	expr "google.golang.org/genproto/googleapis/api/expr/v1alpha1"

	"github.com/ls1intum/edutelligence/logos"
)

// maxFilterParts bounds the comparisons of one filter.
const maxFilterParts = 50

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
	parsed, err := filtering.ParseFilterString(filter, known)
	if err != nil {
		return "", badFilter("%s; fields: %s", firstLine(err), strings.Join(k.filterable(), ", "))
	}
	t := transpiler{kind: k, args: args}
	condition, err := t.boolean(parsed.CheckedExpr.GetExpr())
	if err != nil {
		return "", err
	}
	return condition, nil
}

func badFilter(format string, args ...any) error {
	return logos.Errorf(logos.Invalid, "invalid_filter", "filter: "+format, args...)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
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
		return "coalesce(" + v + ", false)", err
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
		return "not " + inner, err
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
		return "coalesce(" + l + " " + op + " " + r + ", false)", err
	}
	r, err := t.value(right)
	return "coalesce(" + l + " " + op + " " + r + ", false)", err
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
		return "", badFilter("on the right of ':' stands a text")
	}
	r := t.args.add(args[1].GetConstExpr().GetStringValue())
	f := t.field(args[0])
	switch {
	case args[0].GetIdentExpr().GetName() == "labels":
		return l + " ? " + r, nil
	case f != nil && f.is == texts:
		return r + " = any (" + l + ")", nil
	case f == nil || f.is == text:
		return "coalesce(strpos(lower(" + l + "), lower(" + r + ")) > 0, false)", nil
	}
	return "", badFilter("':' is for texts, lists and labels")
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
