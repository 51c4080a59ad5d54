package openapi

import (
	"fmt"
	"html/template"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// name is that of the schema that s refers to.
func (s *Schema) name() string { return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:] }

var (
	code = regexp.MustCompile("`([^`]+)`")
	bold = regexp.MustCompile(`\*\*([^*]+)\*\*`)
	link = regexp.MustCompile(`\[([^\]]+)\]\((https://[^)\s&]+)\)`)
)

// prose shows the few marks of Markdown that our texts use.
func prose(text string) template.HTML {
	text = template.HTMLEscapeString(text)
	text = code.ReplaceAllString(text, "<code>$1</code>")
	text = bold.ReplaceAllString(text, "<strong>$1</strong>")
	return template.HTML(link.ReplaceAllString(text, `<a href="$2">$1</a>`))
}

// typeOf says what a value is, in words.
func typeOf(s *Schema) template.HTML {
	for _, inner := range append(s.AllOf, s.AnyOf...) {
		if inner.Ref != "" || len(inner.AllOf) > 0 {
			return typeOf(inner)
		}
	}
	if s.Ref != "" {
		return template.HTML(fmt.Sprintf(`<a href="#schema-%[1]s">%[1]s</a>`, s.name()))
	}
	if len(s.Type) == 0 {
		return "value"
	}
	switch s.Type[0] {
	case "array":
		return "list of " + typeOf(s.Items)
	case "object":
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			return "map of texts"
		}
		return "object"
	case "string":
		return template.HTML(template.HTMLEscapeString(textType(s)))
	case "integer":
		return "whole number"
	}
	return template.HTML(template.HTMLEscapeString(s.Type[0]))
}

func textType(s *Schema) string {
	switch {
	case s.Format == "date-time":
		return "time, RFC 3339"
	case s.Format == "int64":
		return "whole number, as a text"
	case s.Format == "uuid":
		return "UUID"
	case strings.HasSuffix(s.Pattern, "s$"):
		return "duration, like 3600s"
	}
	return "text"
}

// facts are the limits of a value, in words.
func facts(s *Schema) (out []string) {
	if s.Items != nil {
		out = append(out, facts(s.Items)...)
		for i, f := range out {
			out[i] = "each " + f
		}
	}
	if values := options(s.Enum); values != "" {
		out = append(out, "one of "+values)
	}
	if f := between(string(s.Minimum), string(s.Maximum)); f != "" {
		out = append(out, f)
	}
	if s.MaxLength > 0 {
		out = append(out, between(strconv.FormatUint(s.MinLength, 10), strconv.FormatUint(s.MaxLength, 10))+" characters")
	}
	if s.PropertyNames != nil && s.PropertyNames.Pattern != "" {
		out = append(out, "names match "+s.PropertyNames.Pattern)
	}
	if n := s.MaxItems + s.MaxProperties; n > 0 {
		out = append(out, fmt.Sprintf("at most %d", n))
	}
	if s.UniqueItems {
		out = append(out, "no two the same")
	}
	return out
}

func options(values []any) string {
	var out []string
	for _, v := range values {
		if text, ok := v.(string); ok && text != "" {
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

// between says bounds that are not those of the type.
func between(lo, hi string) string {
	least := lo == "" || lo == "0" || strings.HasPrefix(lo, "-")
	most := hi == "" || hi == strconv.Itoa(math.MaxInt64) || hi == strconv.Itoa(math.MaxInt32)
	switch {
	case most && (least || lo == "1"):
		return ""
	case most:
		return "at least " + lo
	case least:
		return "at most " + hi
	}
	return lo + " to " + hi
}
