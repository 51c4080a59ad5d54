package catalogue

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// A clause says which names a model has, in whatever case they are written.
type clause struct {
	Equals     *string
	StartsWith *string `json:"starts_with"`
	EndsWith   *string `json:"ends_with"`
	Contains   *string
	Regex      *string
	Or         []clause
	And        []clause
	pattern    *pattern
}

// UnmarshalJSON compiles the pattern.
func (c *clause) UnmarshalJSON(text []byte) error {
	type plain clause
	if err := json.Unmarshal(text, (*plain)(c)); err != nil {
		return err
	}
	if c.Regex != nil {
		c.pattern = compile(*c.Regex)
	}
	for _, s := range []*string{c.Equals, c.StartsWith, c.EndsWith, c.Contains} {
		if s != nil {
			*s = strings.ToLower(*s)
		}
	}
	return nil
}

// holds says whether a model has a name, in lower case. A pattern that is not understood holds, see understood.
func (c *clause) holds(name string) bool {
	switch {
	case c.Equals != nil:
		return name == *c.Equals
	case c.StartsWith != nil:
		return strings.HasPrefix(name, *c.StartsWith)
	case c.EndsWith != nil:
		return strings.HasSuffix(name, *c.EndsWith)
	case c.Contains != nil:
		return strings.Contains(name, *c.Contains)
	case c.Regex != nil:
		return c.pattern == nil || c.pattern.holds(name)
	case len(c.Or) > 0:
		return slices.ContainsFunc(c.Or, func(x clause) bool { return x.holds(name) })
	}
	return len(c.And) > 0 && !slices.ContainsFunc(c.And, func(x clause) bool { return !x.holds(name) })
}

// understood says whether every pattern of a clause could be compiled. One that could not may stand for any name: a
// model that has the name by it must not be passed over in favour of a later one, whose prices are others.
func (c *clause) understood() bool {
	odd := func(x clause) bool { return !x.understood() }
	return (c.Regex == nil || c.pattern != nil) && !slices.ContainsFunc(c.Or, odd) && !slices.ContainsFunc(c.And, odd)
}

// A pattern is a regular expression of the kind that can't take long to match. Those do not look ahead, so the one
// way in which lists do so is read as two: what a name must not begin with, and what it must be beside.
type pattern struct{ but, wanted *regexp.Regexp }

const notAhead = "^(?!"

// compile returns nil for what is not understood.
func compile(text string) *pattern {
	var p pattern
	var err error
	if rest, ok := strings.CutPrefix(text, notAhead); ok {
		end := outside(rest, ')')
		if end < 0 || outside(rest[end+1:], '|') >= 0 {
			return nil
		}
		if p.but, err = regexp.Compile("^(?:" + rest[:end] + ")"); err != nil {
			return nil
		}
		text = "^" + rest[end+1:]
	}
	if p.wanted, err = regexp.Compile(text); err != nil {
		return nil
	}
	return &p
}

// outside returns where a character first is in an expression, outside of all that is in brackets; -1: nowhere.
func outside(text string, wanted byte) int {
	depth, class := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == '[' && !class, c == ']' && class:
			class = !class
		case class:
		case c == wanted && depth == 0:
			return i
		case c == '(':
			depth++
		case c == ')':
			depth--
		}
	}
	return -1
}

func (p *pattern) holds(name string) bool {
	return (p.but == nil || !p.but.MatchString(name)) && p.wanted.MatchString(name)
}
