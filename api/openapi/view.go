package openapi

import (
	"bytes"
	"encoding/json"
	"html/template"
	"slices"
	"strings"
)

// A view is what the page shows.
type view struct {
	Title, Version string
	About          []template.HTML // paragraphs
	Groups         []*group
	Schemas        []shape
}

// A group is the operations of one tag.
type group struct {
	ID, Name, Description string
	Operations            []operation
}

type operation struct {
	ID, Verb, Path, Summary, Curl string
	Description                   template.HTML
	Public                        bool // needs no API key
	Parameters                    []row
	Body, Answer                  *shape
	Refusals                      []refusal
}

// A shape is the fields of an object.
type shape struct {
	ID, Name    string
	Description template.HTML
	Optional    bool // of a body: it may be left out
	Rows        []row
}

// A row is a parameter or a field.
type row struct {
	Name, In          string
	Type, Description template.HTML
	Required          bool
	Facts             []string
}

type refusal struct{ Status, Name, Description string }

func viewOf(d *Document) *view {
	v := &view{Title: d.Info.Title, Version: d.Info.Version}
	for p := range strings.SplitSeq(d.Info.Description, "\n\n") {
		v.About = append(v.About, prose(p))
	}
	groups := make(map[string]*group)
	for _, t := range d.Tags {
		g := &group{ID: anchor(t.Name), Name: t.Name, Description: t.Description}
		v.Groups, groups[t.Name] = append(v.Groups, g), g
	}
	for path, verbs := range d.Paths.All() {
		for verb, o := range verbs.All() {
			if g := groups[o.Tags[0]]; g != nil {
				g.Operations = append(g.Operations, d.operation(verb, path, o))
			}
		}
	}
	for _, g := range v.Groups {
		slices.SortStableFunc(g.Operations, func(a, b operation) int { return place(a.ID) - place(b.ID) })
	}
	for name, s := range d.Components.Schemas.All() {
		v.Schemas = append(v.Schemas, *d.shape(name, s))
	}
	return v
}

// place orders the operations on a resource.
func place(id string) int {
	standard := []string{"List", "Create", "Get", "Update", "Delete"}
	for i, verb := range standard {
		if strings.HasPrefix(id, verb) {
			return i
		}
	}
	return len(standard)
}

func anchor(name string) string { return strings.ReplaceAll(strings.ToLower(name), " ", "-") }

func (d *Document) operation(verb, path string, o *Operation) operation {
	out := operation{
		ID: o.OperationID, Verb: strings.ToUpper(verb), Path: path, Summary: o.Summary, Description: prose(o.Description),
		Public: o.Security != nil && len(*o.Security) == 0, Curl: curl(verb, path, o),
	}
	for _, p := range o.Parameters {
		r := rowOf(p.Name, p.Schema)
		r.In, r.Description = p.In, prose(p.Description)
		if p.Schema.Format == "int64" {
			r.Type = "whole number"
		}
		out.Parameters = append(out.Parameters, r)
	}
	if o.RequestBody != nil {
		out.Body = d.body(o.RequestBody.Content.Get("application/json").Schema)
		out.Body.Optional = !o.RequestBody.Required
	}
	for status, r := range o.Responses.All() {
		if status == "200" {
			s := r.Content.Get("application/json").Schema
			out.Answer = d.shape(s.name(), d.Components.Schemas.Get(s.name()))
			continue
		}
		name := r.Ref[strings.LastIndexByte(r.Ref, '/')+1:]
		out.Refusals = append(out.Refusals, refusal{status, name, d.Components.Responses.Get(name).Description})
	}
	return out
}

// body is the shape of a request's body, without what the gateway sets.
func (d *Document) body(s *Schema) *shape {
	required := s.Required
	if len(s.AllOf) == 1 {
		s = s.AllOf[0]
	}
	out := d.shape(s.name(), d.Components.Schemas.Get(s.name()))
	for i := range out.Rows {
		out.Rows[i].Required = out.Rows[i].Required || slices.Contains(required, out.Rows[i].Name)
	}
	return out
}

func (d *Document) shape(name string, s *Schema) *shape {
	out := &shape{ID: "schema-" + name, Name: name, Description: prose(s.Description)}
	input := s.AdditionalProperties != nil
	for field, p := range s.Properties.All() {
		if input && p.ReadOnly {
			continue // it may be sent, and does nothing
		}
		r := rowOf(field, p)
		there := slices.Contains(s.Required, field)
		r.Required = input && there
		if !input {
			r.Facts = append(r.Facts, absence(p, there)...)
		}
		out.Rows = append(out.Rows, r)
	}
	return out
}

// absence says how an answer shows that a field has no value.
func absence(s *Schema, there bool) []string {
	null := slices.Contains(s.Type, "null") || slices.ContainsFunc(s.AnyOf, func(x *Schema) bool { return slices.Contains(x.Type, "null") })
	switch {
	case !there:
		return []string{"or not there"}
	case null:
		return []string{"or null"}
	}
	return nil
}

func rowOf(name string, s *Schema) row {
	return row{Name: name, Type: typeOf(s), Description: prose(s.Description), Facts: facts(s)}
}

// curl is a command that makes the call.
func curl(verb, path string, o *Operation) string {
	for _, p := range o.Parameters {
		if p.In == "path" {
			value := "1"
			if p.Schema.Format == "uuid" {
				value = "4c3648d3-45cf-4a39-9983-4ec0041b40d3"
			}
			path = strings.ReplaceAll(path, "{"+p.Name+"}", value)
		}
	}
	var b strings.Builder
	b.WriteString("curl ")
	if verb != "get" && (verb != "post" || o.RequestBody == nil) {
		b.WriteString("-X " + strings.ToUpper(verb) + " ")
	}
	b.WriteString(base + path)
	if o.Security == nil {
		b.WriteString(" \\\n  -H \"Authorization: Bearer $LOGOS_KEY\"")
	}
	if o.RequestBody != nil {
		example := compact(o.RequestBody.Content.Get("application/json").Example)
		b.WriteString(" \\\n  -H 'Content-Type: application/json' \\\n  -d '" + strings.ReplaceAll(example, "'", `'\''`) + "'")
	}
	return b.String()
}

// compact writes JSON in one line, or, where that is long, in several.
func compact(text json.RawMessage) string {
	var one, several bytes.Buffer
	if json.Compact(&one, text) != nil || json.Indent(&several, one.Bytes(), "  ", "  ") != nil {
		return string(text)
	}
	if one.Len() <= 80 {
		return one.String()
	}
	return several.String()
}
