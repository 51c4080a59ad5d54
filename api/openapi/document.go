package openapi

import "encoding/json"

// A Document is an OpenAPI 3.1 document, as far as the admin API needs it.
type Document struct {
	OpenAPI    string               `json:"openapi"`
	Info       Info                 `json:"info"`
	Servers    []Server             `json:"servers"`
	Security   []Security           `json:"security"`
	Tags       []Tag                `json:"tags"`
	Paths      Map[Map[*Operation]] `json:"paths"` // by path and method
	Components Components           `json:"components"`
}

// Info is about the whole API.
type Info struct {
	Title       string `json:"title"`
	Description string `json:"description"`
	Version     string `json:"version"`
}

// A Server is where the API is.
type Server struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

// Security names a scheme that a call must satisfy.
type Security map[string][]string

// A Tag is a group of operations.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// Components are what operations refer to.
type Components struct {
	Schemas         Map[*Schema]         `json:"schemas"`
	Responses       Map[*Response]       `json:"responses"`
	Headers         Map[*Header]         `json:"headers"`
	SecuritySchemes Map[*SecurityScheme] `json:"securitySchemes"`
}

// A SecurityScheme is how callers authenticate.
type SecurityScheme struct {
	Type        string `json:"type"`
	Scheme      string `json:"scheme"`
	Description string `json:"description"`
}

// An Operation is a method on a path.
type Operation struct {
	Tags        []string       `json:"tags"`
	Summary     string         `json:"summary"`
	Description string         `json:"description"`
	OperationID string         `json:"operationId"`
	Security    *[]Security    `json:"security,omitempty"` // instead of the document's
	Parameters  []*Parameter   `json:"parameters,omitempty"`
	RequestBody *RequestBody   `json:"requestBody,omitempty"`
	Responses   Map[*Response] `json:"responses"` // by status
}

// A Parameter is in the path or the query.
type Parameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Style       string  `json:"style,omitempty"`
	Explode     *bool   `json:"explode,omitempty"`
	Schema      *Schema `json:"schema"`
}

// A RequestBody is what a call sends.
type RequestBody struct {
	Required bool       `json:"required,omitempty"`
	Content  Map[Media] `json:"content"` // by media type
}

// Media is a body in one media type.
type Media struct {
	Schema  *Schema         `json:"schema"`
	Example json.RawMessage `json:"example,omitempty"`
}

// A Response is what a call answers with one status; with a Ref it is nothing else.
type Response struct {
	Ref         string       `json:"$ref,omitempty"`
	Description string       `json:"description,omitempty"`
	Headers     Map[*Header] `json:"headers,omitzero"`
	Content     Map[Media]   `json:"content,omitzero"`
}

// A Header is one of a response; with a Ref it is nothing else.
type Header struct {
	Ref         string  `json:"$ref,omitempty"`
	Description string  `json:"description,omitempty"`
	Schema      *Schema `json:"schema,omitempty"`
}

// A Schema is a JSON Schema, as far as the admin API needs it.
type Schema struct {
	Ref                  string       `json:"$ref,omitempty"`
	Description          string       `json:"description,omitempty"`
	Type                 Types        `json:"type,omitempty"`
	Format               string       `json:"format,omitempty"`
	Const                any          `json:"const,omitempty"`
	Enum                 []any        `json:"enum,omitempty"`
	Minimum              json.Number  `json:"minimum,omitempty"`
	Maximum              json.Number  `json:"maximum,omitempty"`
	MinLength            uint64       `json:"minLength,omitempty"`
	MaxLength            uint64       `json:"maxLength,omitempty"`
	Pattern              string       `json:"pattern,omitempty"`
	Items                *Schema      `json:"items,omitempty"`
	MaxItems             uint64       `json:"maxItems,omitempty"`
	UniqueItems          bool         `json:"uniqueItems,omitempty"`
	Properties           Map[*Schema] `json:"properties,omitzero"`
	Required             []string     `json:"required,omitempty"`
	AdditionalProperties *Additional  `json:"additionalProperties,omitempty"`
	PropertyNames        *Schema      `json:"propertyNames,omitempty"`
	MaxProperties        uint64       `json:"maxProperties,omitempty"`
	AllOf                []*Schema    `json:"allOf,omitempty"`
	AnyOf                []*Schema    `json:"anyOf,omitempty"`
	ReadOnly             bool         `json:"readOnly,omitempty"`
	WriteOnly            bool         `json:"writeOnly,omitempty"`
}
