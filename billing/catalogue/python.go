package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

var errNotData = errors.New("it is no data that is understood")

// maxNesting bounds how deep an expression is.
const maxNesting = 50

// A python reads the literals and constructor calls of which a data module consists. A call with names becomes an
// object of them, a Decimal a number, a date a text; nothing is looked up or called.
type python struct {
	rest  string
	depth int
}

// parsePython reads the first expression of a text as JSON has it.
func parsePython(text []byte) (any, error) {
	p := &python{rest: string(text)}
	return p.value()
}

func (p *python) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *python) take(s string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

func (p *python) value() (any, error) {
	p.depth++
	defer func() { p.depth-- }()
	p.space()
	switch {
	case p.depth > maxNesting || p.rest == "":
		return nil, errNotData
	case p.take("["):
		return p.sequence("]")
	case p.take("("):
		return p.parenthesis()
	case p.take("{"):
		return p.object()
	case p.rest[0] == '\'' || p.rest[0] == '"':
		return p.texts()
	case p.rest[0] == '-' || p.rest[0] >= '0' && p.rest[0] <= '9':
		return p.number()
	}
	return p.name()
}

// sequence reads values up to a closing bracket.
func (p *python) sequence(end string) (any, error) {
	list := []any{}
	for !p.take(end) {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if !p.take(",") && !strings.HasPrefix(p.rest, end) {
			return nil, errNotData
		}
	}
	return list, nil
}

// object reads a mapping of texts.
func (p *python) object() (any, error) {
	object := make(map[string]any)
	for !p.take("}") {
		key, err := p.value()
		name, ok := key.(string)
		if err != nil || !ok || !p.take(":") {
			return nil, errNotData
		}
		if object[name], err = p.value(); err != nil {
			return nil, err
		}
		if !p.take(",") && !strings.HasPrefix(p.rest, "}") {
			return nil, errNotData
		}
	}
	return object, nil
}

// parenthesis reads a value in parentheses, or a tuple.
func (p *python) parenthesis() (any, error) {
	v, err := p.sequence(")")
	if list, ok := v.([]any); ok && len(list) == 1 {
		return list[0], err
	}
	return v, err
}

// texts reads adjacent literals as one.
func (p *python) texts() (any, error) {
	var b strings.Builder
	for p.space(); p.rest != "" && (p.rest[0] == '\'' || p.rest[0] == '"'); p.space() {
		if err := p.text(&b); err != nil {
			return nil, err
		}
	}
	return b.String(), nil
}

func (p *python) text(b *strings.Builder) error {
	quote := p.rest[0]
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == quote:
			p.rest = p.rest[i+1:]
			return nil
		case c == '\\' && i+1 < len(p.rest) && strings.IndexByte(`\'"`, p.rest[i+1]) >= 0:
			i++
			b.WriteByte(p.rest[i])
		case c == '\\' && i+1 < len(p.rest) && p.rest[i+1] == 'n':
			i++
			b.WriteByte('\n')
		case c == '\\' && i+1 < len(p.rest) && p.rest[i+1] == 't':
			i++
			b.WriteByte('\t')
		case c == '\\', c == '\n':
			return errNotData
		default:
			b.WriteByte(c)
		}
	}
	return errNotData
}

func (p *python) number() (any, error) {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, "-0123456789_.eE+"))
	text := strings.ReplaceAll(p.rest[:n], "_", "")
	p.rest = p.rest[n:]
	return asNumber(text)
}

func asNumber(text string) (any, error) {
	if !json.Valid([]byte(text)) || text == "" || strings.Trim(text, "-0123456789.eE+") != "" {
		return nil, errNotData
	}
	return json.Number(text), nil
}

// name reads a constant, or a call.
func (p *python) name() (any, error) {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."))
	name := p.rest[:n]
	p.rest = p.rest[n:]
	switch {
	case name == "None":
		return nil, nil
	case name == "True", name == "False":
		return name == "True", nil
	case name == "datetime.UTC":
		return name, nil
	case name == "" || !p.take("("):
		return nil, errNotData
	}
	return p.call(name)
}

// call reads what is written as a call: some are values, others objects of what is given by name.
func (p *python) call(name string) (any, error) {
	named, list, err := p.arguments()
	if err != nil {
		return nil, err
	}
	switch {
	case name == "Decimal" && len(list) == 1:
		if text, ok := list[0].(string); ok {
			return asNumber(text)
		}
	case name == "datetime.date" && len(list) == 3:
		return date(list)
	case name == "datetime.time":
		return "time", nil // conditions on it are not understood in any case
	case len(list) == 0:
		return named, nil
	}
	return nil, errNotData
}

// arguments reads those of a call, up to its end.
func (p *python) arguments() (named map[string]any, list []any, err error) {
	named = make(map[string]any)
	for !p.take(")") {
		name := p.keyword()
		v, err := p.value()
		switch {
		case err != nil:
			return nil, nil, err
		case !p.take(",") && !strings.HasPrefix(p.rest, ")"):
			return nil, nil, errNotData
		case name != "":
			named[strings.TrimSuffix(name, "_")] = v // or_ and and_, which are words of the language
		default:
			list = append(list, v)
		}
	}
	return named, list, nil
}

// keyword reads the name before an argument, if it has one.
func (p *python) keyword() string {
	p.space()
	name := p.rest[:len(p.rest)-len(strings.TrimLeft(p.rest, "abcdefghijklmnopqrstuvwxyz0123456789_"))]
	rest, ok := strings.CutPrefix(p.rest[len(name):], "=")
	if name == "" || !ok {
		return ""
	}
	p.rest = rest
	return name
}

func date(list []any) (any, error) {
	if len(list) != 3 {
		return nil, errNotData
	}
	var parts [3]int64
	for i, v := range list {
		n, ok := v.(json.Number)
		if !ok {
			return nil, errNotData
		}
		whole, err := n.Int64()
		if err != nil {
			return nil, errNotData
		}
		parts[i] = whole
	}
	return fmt.Sprintf("%04d-%02d-%02d", parts[0], parts[1], parts[2]), nil
}
