package main

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
)

// file adds the services of a file: each is a tag.
func (g *generator) file(f *protogen.File) {
	tag := strings.ReplaceAll(strings.TrimSuffix(path.Base(f.Desc.Path()), ".proto"), "_", " ")
	tag = strings.Replace(strings.ToUpper(tag[:1])+tag[1:], "Api", "API", 1)
	for _, s := range f.Services {
		g.doc.Tags = append(g.doc.Tags, openapi.Tag{Name: tag, Description: comment(s.Comments.Leading, s.GoName)})
		for _, m := range s.Methods {
			g.method(tag, m)
		}
	}
}

var inPath = regexp.MustCompile(`\{([a-z_.]+)\}`)

// A call is a method with its HTTP rule.
type call struct {
	*protogen.Method
	verb, path, body string
	bound            []string // paths of the fields that are in the path
}

func (g *generator) method(tag string, m *protogen.Method) {
	rule, _ := proto.GetExtension(m.Desc.Options(), annotations.E_Http).(*annotations.HttpRule)
	c := call{Method: m, body: rule.GetBody()}
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		c.verb, c.path = "get", p.Get
	case *annotations.HttpRule_Post:
		c.verb, c.path = "post", p.Post
	case *annotations.HttpRule_Patch:
		c.verb, c.path = "patch", p.Patch
	case *annotations.HttpRule_Delete:
		c.verb, c.path = "delete", p.Delete
	default:
		g.fail(fmt.Errorf("%s has no HTTP rule that is understood", m.Desc.FullName()))
		return
	}
	for _, found := range inPath.FindAllStringSubmatch(c.path, -1) {
		c.bound = append(c.bound, found[1])
		c.path = strings.Replace(c.path, found[0], "{"+last(found[1])+"}", 1)
	}
	methods := g.doc.Paths.Get(c.path)
	methods.Set(c.verb, g.operation(tag, c))
	g.doc.Paths.Set(c.path, methods)
}

// last is the last part of a field's path. The same resource has the same parameter in all its paths.
func last(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func (g *generator) operation(tag string, c call) *openapi.Operation {
	public := strings.Contains(string(c.Comments.Leading), "It needs no API key.")
	o := &openapi.Operation{
		Tags: []string{tag}, Summary: words(c.GoName), Description: comment(c.Comments.Leading, c.GoName), OperationID: c.GoName,
		Parameters: g.parameters(c), RequestBody: g.requestBody(c),
	}
	if public {
		o.Security = &[]openapi.Security{}
	}
	ok := &openapi.Response{Description: comment(c.Output.Comments.Leading, c.Output.GoIdent.GoName)}
	ok.Headers.Set("x-request-id", &openapi.Header{Ref: "#/components/headers/RequestId"})
	ok.Content.Set("application/json", openapi.Media{Schema: g.output(c.Output)})
	o.Responses.Set("200", ok)
	for _, r := range refusalsOf(c.Method, c.verb, len(c.bound) > 0, public) {
		o.Responses.Set(r.status, &openapi.Response{Ref: "#/components/responses/" + r.name})
	}
	return o
}

func (g *generator) parameters(c call) (out []*openapi.Parameter) {
	for _, bound := range c.bound {
		f := c.Input
		parts := strings.Split(bound, ".")
		for _, p := range parts[:len(parts)-1] {
			f = fieldOf(f, p).Message
		}
		out = append(out, g.parameter(fieldOf(f, last(bound)), "path", nil))
	}
	if c.body == "*" {
		return out
	}
	for _, f := range c.Input.Fields {
		if name := string(f.Desc.Name()); name != c.body && !slices.Contains(c.bound, name) {
			out = append(out, g.parameter(f, "query", fieldOf(c.Input, c.body)))
		}
	}
	return out
}

func fieldOf(m *protogen.Message, name string) *protogen.Field {
	if i := slices.IndexFunc(m.Fields, func(f *protogen.Field) bool { return string(f.Desc.Name()) == name }); i >= 0 {
		return m.Fields[i]
	}
	return nil
}

// parameter describes a field in the path or the query; changed is what a field mask is about.
func (g *generator) parameter(f *protogen.Field, in string, changed *protogen.Field) *openapi.Parameter {
	p := &openapi.Parameter{Name: string(f.Desc.Name()), In: in, Description: comment(f.Comments.Leading, ""), Required: in == "path"}
	if f.Message != nil && f.Message.Desc.FullName() == "google.protobuf.FieldMask" && changed != nil {
		explode := false
		p.Style, p.Explode = "form", &explode
		p.Schema = &openapi.Schema{Type: openapi.Types{"array"}, Items: &openapi.Schema{Type: openapi.Types{"string"}, Enum: maskPaths(changed.Message, "")}}
		return p
	}
	p.Schema = g.value(f, written)
	if in == "path" && f.Desc.Kind() == protoreflect.Int64Kind { // as in answers; as a number it could be written 1.0
		p.Description = "Of the resource."
		p.Schema = &openapi.Schema{Type: openapi.Types{"string"}, Format: "int64", Pattern: digits(1, math.MaxInt64)}
	}
	return p
}

// maskPaths are the fields that can be changed.
func maskPaths(m *protogen.Message, within string) (out []any) {
	for _, f := range m.Fields {
		name := string(f.Desc.Name())
		if has(f, annotations.FieldBehavior_OUTPUT_ONLY) || name == "etag" {
			continue
		}
		out = append(out, within+name)
		if f.Message != nil && !f.Desc.IsList() && !f.Desc.IsMap() && wellKnown(f.Message) == nil {
			out = append(out, maskPaths(f.Message, within+name+".")...)
		}
	}
	return out
}

func (g *generator) requestBody(c call) *openapi.RequestBody {
	if c.body == "" {
		return nil
	}
	b := &openapi.RequestBody{Required: true}
	var schema *openapi.Schema
	if c.body == "*" {
		schema = g.input(c.Input, c.bound...)
		b.Required = slices.ContainsFunc(c.Input.Fields, func(f *protogen.Field) bool {
			return has(f, annotations.FieldBehavior_REQUIRED) && !slices.Contains(c.bound, string(f.Desc.Name()))
		})
	} else {
		schema = g.input(fieldOf(c.Input, c.body).Message)
		if c.verb == "post" {
			schema = withRequired(schema, fieldOf(c.Input, c.body).Message)
		}
	}
	media := openapi.Media{Schema: schema}
	if example := examples[c.GoName]; json.Valid([]byte(example)) {
		media.Example = json.RawMessage(example)
	} else {
		g.fail(fmt.Errorf("%s has no example", c.GoName))
	}
	b.Content.Set("application/json", media)
	return b
}

var word = regexp.MustCompile(`[A-Z][a-z]*`)

// words separates the words of a name in camel case.
func words(name string) string {
	parts := word.FindAllString(name, -1)
	for i, p := range parts {
		switch {
		case p == "Api":
			parts[i] = "API"
		case i > 0 && p != "I":
			parts[i] = strings.ToLower(p)
		}
	}
	return strings.Join(parts, " ")
}
