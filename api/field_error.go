package api

import (
	"errors"
	"strings"

	"buf.build/go/protovalidate"

	"github.com/ls1intum/edutelligence/logos"
)

// A fieldError is a refusal that is about one field.
type fieldError struct {
	path string
	err  *logos.Error
}

func (e *fieldError) Error() string { return e.path + ": " + e.err.Message }
func (e *fieldError) Unwrap() error { return e.err }

// fieldErrors are what is wrong with several fields at once.
type fieldErrors []*fieldError

func (e fieldErrors) Error() string {
	texts := make([]string, len(e))
	for i, f := range e {
		texts[i] = f.Error()
	}
	return strings.Join(texts, "; ")
}

func (e fieldErrors) Unwrap() error { return e[0].err }

// invalid refuses the value of a field, saying what would be right.
func invalid(path, format string, args ...any) error {
	return &fieldError{path, logos.Errorf(logos.Invalid, "invalid_field", format, args...)}
}

// at says which field a refusal of the domain is about, if that is a wrong value.
func at(path string, err error) error {
	if e, ok := errors.AsType[*logos.Error](err); ok && e.Kind == logos.Invalid {
		return &fieldError{path, e}
	}
	return err
}

// named checks the name that a field holds.
func named(field, name string) error { return at(field, checkName("it", name)) }

// inside puts a path before those of the fields that an error is about.
func inside(path string, err error) error {
	if bad := fieldsOf(err); len(bad) > 0 {
		out := make(fieldErrors, len(bad))
		for i, f := range bad {
			out[i] = &fieldError{path + "." + f.path, f.err}
		}
		return out
	}
	return err
}

// within is inside; a refusal that is about no field is then about the path itself.
func within(path string, err error) error {
	if e, ok := errors.AsType[*logos.Error](err); ok && len(fieldsOf(err)) == 0 {
		return &fieldError{path, e}
	}
	return inside(path, err)
}

// fieldsOf returns the fields that an error is about.
func fieldsOf(err error) fieldErrors {
	if f, ok := errors.AsType[*fieldError](err); ok {
		return fieldErrors{f}
	}
	bad, _ := errors.AsType[fieldErrors](err)
	return bad
}

// violations are what protovalidate found, by field.
func violations(v *protovalidate.ValidationError) error {
	out := make(fieldErrors, 0, len(v.Violations))
	for _, x := range v.Violations {
		path := protovalidate.FieldPathString(x.Proto.GetField())
		out = append(out, &fieldError{path, logos.Errorf(logos.Invalid, "invalid_field", "%s", describe(path, x))})
	}
	if len(out) == 0 {
		return logos.Errorf(logos.Invalid, "invalid_field", "the request is not valid")
	}
	return out
}

// patterns say in words what the patterns of some fields mean.
var patterns = map[string]string{
	"labels":        "names of labels begin with a letter, and hold letters, digits, '_', '.', '/' and '-', at most 63 of them",
	"email":         "must be an email address, like ann@example.org",
	"capabilities":  "must be lower-case letters, digits and '_', like json_schema",
	"secret_sha256": "must be 64 hexadecimal digits",
	"amount":        "must be a decimal number, like 0.0025",
	"currency":      "must be a code of three letters, like EUR",
	"label":         "must be the name of a label",
	"name":          shortName, "task_quality": shortName, "task_accuracy": shortName, "min_task_quality": shortName, "min_task_accuracy": shortName,
}

const shortName = "names of rules and tasks begin with a lower-case letter, and hold those, digits, '_' and '-', at most 63 of them"

func describe(path string, x *protovalidate.Violation) string {
	message := x.Proto.GetMessage()
	switch rule := x.Proto.GetRuleId(); {
	case rule == "required", (strings.HasSuffix(rule, "min_bytes") || strings.HasSuffix(rule, "min_len")) && x.FieldValue.IsValid() && x.FieldValue.String() == "":
		return "must be given"
	case rule == "string.pattern":
		last := path[strings.LastIndexByte(path, '.')+1:]
		name, _, _ := strings.Cut(last, "[")
		if meaning, ok := patterns[name]; ok {
			return meaning
		}
	case message == "":
		return "does not hold: " + rule
	}
	return strings.Replace(message, "in list [, ", "empty, or in list [", 1)
}
