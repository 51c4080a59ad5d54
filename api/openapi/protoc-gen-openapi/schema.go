package main

import (
	"slices"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
)

// A side says where JSON stands: what the gateway writes is of one form, and it reads more than one.
type side int

const (
	answered side = iota // in answers
	sent                 // in bodies of requests
	written              // in paths and queries
)

// output returns a reference to the schema of a message in answers.
func (g *generator) output(m *protogen.Message) *openapi.Schema {
	name := m.GoIdent.GoName
	if g.outputs[name] {
		return component(name)
	}
	g.outputs[name] = true
	s := object(comment(m.Comments.Leading, m.GoIdent.GoName))
	for _, f := range m.Fields {
		if has(f, annotations.FieldBehavior_INPUT_ONLY) {
			continue
		}
		x := g.field(f, answered)
		x.ReadOnly = has(f, annotations.FieldBehavior_OUTPUT_ONLY)
		s.Properties.Set(string(f.Desc.Name()), x)
		if !f.Desc.HasOptionalKeyword() { // those are left out while they are not set
			s.Required = append(s.Required, string(f.Desc.Name()))
		}
	}
	g.doc.Components.Schemas.Set(name, s)
	return component(name)
}

// input returns a reference to the schema of a message in bodies. What a resource must have is left to
// withRequired: changes need not hold it.
func (g *generator) input(m *protogen.Message, without ...string) *openapi.Schema {
	name := inputName(m)
	if g.inputs[name] {
		return component(name)
	}
	g.inputs[name] = true
	s := object(comment(m.Comments.Leading, m.GoIdent.GoName))
	s.AdditionalProperties = &openapi.Additional{}
	for _, f := range m.Fields {
		if slices.Contains(without, string(f.Desc.Name())) {
			continue
		}
		x := &openapi.Schema{ReadOnly: true} // it may be there, and is ignored
		if !has(f, annotations.FieldBehavior_OUTPUT_ONLY) {
			x = g.field(f, sent)
			x.WriteOnly = has(f, annotations.FieldBehavior_INPUT_ONLY)
		}
		s.Properties.Set(string(f.Desc.Name()), x)
	}
	if !isResource(m) {
		s.Required = slices.DeleteFunc(required(m), func(name string) bool { return slices.Contains(without, name) })
	}
	g.doc.Components.Schemas.Set(name, s)
	return component(name)
}

// inputName keeps a message in bodies apart from the same in answers.
func inputName(m *protogen.Message) string {
	name := m.GoIdent.GoName
	if len(name) > 7 && name[len(name)-7:] == "Request" {
		return name
	}
	return name + "Input"
}

func isResource(m *protogen.Message) bool {
	return fieldOf(m, "etag") != nil && fieldOf(m, "update_time") != nil
}

func required(m *protogen.Message) (names []string) {
	for _, f := range m.Fields {
		if has(f, annotations.FieldBehavior_REQUIRED) {
			names = append(names, string(f.Desc.Name()))
		}
	}
	return names
}

// withRequired adds what a new resource must have.
func withRequired(s *openapi.Schema, m *protogen.Message) *openapi.Schema {
	if !isResource(m) || len(required(m)) == 0 {
		return s
	}
	out := &openapi.Schema{AllOf: []*openapi.Schema{s}, Required: required(m)}
	for _, f := range m.Fields {
		if has(f, annotations.FieldBehavior_REQUIRED) && f.Desc.Kind() == protoreflect.StringKind {
			out.Properties.Set(string(f.Desc.Name()), &openapi.Schema{Type: openapi.Types{"string"}, MinLength: 1})
		}
	}
	return out
}

func has(f *protogen.Field, b annotations.FieldBehavior) bool {
	behaviours, _ := proto.GetExtension(f.Desc.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	return slices.Contains(behaviours, b)
}

// field returns the schema of a field in JSON.
func (g *generator) field(f *protogen.Field, at side) *openapi.Schema {
	var s *openapi.Schema
	rules := rulesOf(f)
	switch {
	case f.Desc.IsMap():
		s = &openapi.Schema{Type: openapi.Types{"object"}, MaxProperties: rules.GetMap().GetMaxPairs()}
		values := &openapi.Schema{}
		g.constrain(values, f.Desc.MapValue().Kind(), rules.GetMap().GetValues(), at)
		if at == sent {
			s.PropertyNames = &openapi.Schema{}
			g.constrain(s.PropertyNames, protoreflect.StringKind, rules.GetMap().GetKeys(), at)
		} else {
			s.MaxProperties = 0
		}
		s.AdditionalProperties = &openapi.Additional{Schema: values}
	case f.Desc.IsList():
		s = &openapi.Schema{Type: openapi.Types{"array"}}
		if at == sent {
			s.MaxItems, s.UniqueItems = rules.GetRepeated().GetMaxItems(), rules.GetRepeated().GetUnique()
		}
		s.Items = g.single(f, rules.GetRepeated().GetItems(), at)
	default:
		s = g.value(f, at)
	}
	s.Description = comment(f.Comments.Leading, "")
	return nullable(s, f, at)
}

// nullable allows null where the gateway writes or reads it.
func nullable(s *openapi.Schema, f *protogen.Field, at side) *openapi.Schema {
	message := f.Message != nil && !f.Desc.IsList() && !f.Desc.IsMap()
	if at == answered && !message || at == sent && has(f, annotations.FieldBehavior_REQUIRED) && !isResource(f.Parent) { // a change may leave it out
		return s
	}
	if s.Ref == "" && s.AllOf == nil {
		s.Type = append(s.Type, "null")
		if s.Enum != nil {
			s.Enum = append(s.Enum, nil)
		}
		return s
	}
	description := s.Description
	s.Description = ""
	return &openapi.Schema{Description: description, AnyOf: []*openapi.Schema{s, {Type: openapi.Types{"null"}}}}
}

// value returns the schema of a field that is no list.
func (g *generator) value(f *protogen.Field, at side) *openapi.Schema {
	return g.single(f, rulesOf(f), at)
}

// single returns the schema of one value.
func (g *generator) single(f *protogen.Field, rules *rules, at side) *openapi.Schema {
	if f.Message == nil {
		s := &openapi.Schema{}
		g.constrain(s, f.Desc.Kind(), rules, at)
		return s
	}
	if s := wellKnown(f.Message); s != nil {
		return s
	}
	if at == answered {
		return g.output(f.Message)
	}
	return withRequired(g.input(f.Message), f.Message)
}

// wellKnown returns the schema of a message that has a form of its own in JSON.
func wellKnown(m *protogen.Message) *openapi.Schema {
	switch m.Desc.FullName() {
	case "google.protobuf.Timestamp":
		return &openapi.Schema{Type: openapi.Types{"string"}, Format: "date-time"}
	case "google.protobuf.Duration":
		return &openapi.Schema{Type: openapi.Types{"string"}, Pattern: `^[0-9]{1,9}(\.[0-9]{1,9})?s$`}
	case "google.protobuf.Struct":
		return &openapi.Schema{Type: openapi.Types{"object"}}
	}
	return nil
}
