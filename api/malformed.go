package api

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos"
)

// position is how protojson says where in a text an error is.
var position = regexp.MustCompile(`\(line ([0-9]+):([0-9]+)\)`)

// surrogates are the first halves of characters in escapes.
var surrogates = regexp.MustCompile(`\\u[dD][89abAB]`)

// malformed says which field of a body protojson could not read, and what would be right. What was there
// instead, which may be a secret, it does not say.
func malformed(data []byte, m protoreflect.MessageDescriptor, err error) error {
	text := err.Error()
	offset := offsetOf(data, text)
	halves := surrogates.FindAllIndex(data, -1)
	alone := len(halves) > 0 && strings.Contains(text, "EOF") && json.Valid(data)
	if alone { // protojson looks for the second half up to the end, and does not say where
		offset = halves[len(halves)-1][0]
	}
	open, valid := framesAt(data, offset)
	at := locate(m, open)
	path := strings.TrimPrefix(at.path, ".")
	notJSON := func(message string) error {
		e := logos.Errorf(logos.Invalid, "invalid_json", "%s", message)
		if path == "" {
			return e
		}
		return &fieldError{path, e}
	}
	switch {
	case strings.Contains(text, "invalid UTF-8"):
		return notJSON("the body must be UTF-8")
	case strings.Contains(text, "recursion depth"):
		return notJSON("the body is nested too deeply")
	case strings.Contains(text, "escape"), alone:
		return notJSON("a text holds an escape that stands for no character")
	case !valid || !json.Valid(data):
		return notJSON("the body is no JSON, from here on at least")
	case path == "":
		return notJSON("the body must be a JSON object")
	case strings.Contains(text, "duplicate"):
		return invalid(path, "it is there twice")
	case at.free: // any JSON can stand there, and protojson reads all of it but such numbers
		return invalid(path, "is a number that is too large")
	case at.field == nil:
		return invalid(path, "there is no such field: there are %s", strings.Join(changeable(at.in), ", "))
	}
	return invalid(path, "must be %s", shape(at.field, at.element))
}

// offsetOf returns where in the data an error of protojson is; the end if it does not say.
func offsetOf(data []byte, text string) int {
	found := position.FindStringSubmatch(text)
	if found == nil {
		return len(data)
	}
	line, _ := strconv.Atoi(found[1])
	column, _ := strconv.Atoi(found[2])
	offset := 0
	for ; line > 1; line-- {
		i := bytes.IndexByte(data[offset:], '\n')
		if i < 0 {
			return len(data)
		}
		offset += i + 1
	}
	for ; column > 1 && offset < len(data); column-- {
		_, size := utf8.DecodeRune(data[offset:])
		offset += size
	}
	return offset
}

// A frame is an object or list that is open where a text is read.
type frame struct {
	list  bool
	index int    // of the present element of a list
	name  string // of the present member of an object
	named bool   // its value comes next
}

// framesAt returns what leads to the value, or the name of one, that stands at an offset. valid is false if
// the text before is no JSON.
func framesAt(data []byte, offset int) (open []*frame, valid bool) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return open, false
		}
		delimiter, _ := token.(json.Delim)
		closes := delimiter == '}' || delimiter == ']'
		if len(open) > 0 && !closes {
			open[len(open)-1].take(token)
		}
		switch {
		case d.InputOffset() > int64(offset):
			return open, true
		case closes:
			open = open[:len(open)-1]
		case delimiter != 0:
			open = append(open, &frame{list: delimiter == '[', index: -1})
		}
		if len(open) == 0 {
			return nil, true
		}
	}
}

// take notes the next token of an open object or list.
func (x *frame) take(token json.Token) {
	switch {
	case x.list:
		x.index++
	case x.named:
		x.named = false
	default:
		x.name, _ = token.(string)
		x.named = true
	}
}

// A place is a field in a message, or an element of it.
type place struct {
	path    string
	in      protoreflect.MessageDescriptor // that holds the field
	field   protoreflect.FieldDescriptor   // nil: there is none of that name
	element bool                           // of the field, which is a list or a map
	free    bool                           // it is in a field that holds any JSON object
}

// locate follows frames from a message to a place in it.
func locate(m protoreflect.MessageDescriptor, open []*frame) place {
	p := place{in: m}
	for _, x := range open {
		p.free = p.free || p.field != nil && p.field.Message() != nil && p.field.Message().FullName() == "google.protobuf.Struct"
		switch {
		case x.list:
			p.path, p.element = item(p.path, x.index), true
		case p.free:
			p.path += "." + short(x.name)
		case p.field != nil && p.field.IsMap():
			p.path, p.element = p.path+"."+short(x.name), true
		default:
			if p.field != nil {
				p.in = p.field.Message()
			}
			p.field, p.element = member(p.in, x.name), false
			if p.path += "." + short(x.name); p.field == nil {
				return p
			}
		}
	}
	return p
}

// member finds a field by either of its names in JSON.
func member(m protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if m == nil {
		return nil
	}
	if f := m.Fields().ByName(protoreflect.Name(name)); f != nil {
		return f
	}
	return m.Fields().ByJSONName(name)
}

// shape says in words what a field, or an element of it, holds.
func shape(f protoreflect.FieldDescriptor, element bool) string {
	switch {
	case f.IsMap() && !element && f.MapValue().Kind() == protoreflect.DoubleKind:
		return "an object of numbers"
	case f.IsMap() && !element:
		return "an object of texts"
	case f.IsMap() && f.MapValue().Kind() == protoreflect.DoubleKind:
		return "a number"
	case f.IsList() && !element:
		return "a list, each " + shape(f, true)
	case f.IsMap() || f.Kind() == protoreflect.StringKind:
		return "a text"
	case f.Kind() == protoreflect.BoolKind:
		return "true or false"
	case f.Kind() == protoreflect.DoubleKind:
		return "a number"
	case f.Message() == nil:
		return "a whole number"
	}
	switch f.Message().FullName() {
	case "google.protobuf.Timestamp":
		return "a time like \"2027-01-31T12:00:00Z\""
	case "google.protobuf.Duration":
		return "a duration in seconds, like \"3600s\""
	case "google.protobuf.FieldMask":
		return "paths joined by commas, like \"name,labels\""
	}
	return "an object"
}
