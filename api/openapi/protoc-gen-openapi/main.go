// Command protoc-gen-openapi writes the OpenAPI document of the admin API from its protos: paths from
// google.api.http, constraints from buf.validate, what is required or read-only from google.api.field_behavior,
// texts from comments. It knows how the gateway writes and reads JSON, and fails on rules that it can't say.
// `make generate` runs it by way of buf.
package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/ls1intum/edutelligence/logos/api/openapi"
)

func main() {
	protogen.Options{}.Run(func(p *protogen.Plugin) error {
		p.SupportedFeatures = uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
		g := &generator{doc: newDocument(), inputs: make(map[string]bool), outputs: make(map[string]bool)}
		for _, f := range p.Files {
			if f.Generate {
				g.file(f)
			}
		}
		if g.err != nil {
			return g.err
		}
		g.doc.Components.Schemas.Sort()
		slices.SortFunc(g.doc.Tags, func(a, b openapi.Tag) int { return strings.Compare(a.Name, b.Name) })
		text, err := write(g.doc)
		if err != nil {
			return err
		}
		_, err = p.NewGeneratedFile("openapi.json", "").Write(text)
		return err
	})
}

// A generator makes one document of all files.
type generator struct {
	doc             *openapi.Document
	inputs, outputs map[string]bool // the schemas that are made
	err             error           // the first
}

func (g *generator) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

func write(d *openapi.Document) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(d)
	return b.Bytes(), err
}

func newDocument() *openapi.Document {
	d := &openapi.Document{
		OpenAPI:  "3.1.1",
		Info:     openapi.Info{Title: "Logos admin API", Description: strings.TrimSpace(about), Version: "v1"},
		Servers:  []openapi.Server{{URL: "/", Description: "The admin port of the gateway that serves this document."}},
		Security: []openapi.Security{{bearer: {}}},
	}
	d.Components.SecuritySchemes.Set(bearer, &openapi.SecurityScheme{
		Type: "http", Scheme: "bearer", Description: "An API key of Logos: `Authorization: Bearer lg-…`. What it may do depends on its role; `GET /admin/v1/whoami` says it.",
	})
	d.Components.Headers.Set("RequestId", &openapi.Header{
		Description: "Names the request in audit events.", Schema: &openapi.Schema{Type: openapi.Types{"string"}},
	})
	d.Components.Headers.Set("Authenticate", &openapi.Header{
		Description: "How to authenticate.", Schema: &openapi.Schema{Type: openapi.Types{"string"}, Const: "Bearer"},
	})
	for _, r := range refusals {
		d.Components.Responses.Set(r.name, r.response())
	}
	d.Components.Schemas.Set("Status", statusSchema())
	return d
}

// comment is a leading comment in one line, without the name that Go's style begins it with.
func comment(c protogen.Comments, name string) string {
	text := strings.Join(strings.Fields(string(c)), " ")
	for _, prefix := range []string{name + " is ", name + " are ", name + " "} {
		if rest, ok := strings.CutPrefix(text, prefix); ok && name != "" {
			return strings.ToUpper(rest[:1]) + rest[1:]
		}
	}
	return text
}
