package api

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
)

const masked = `"***"`

// differences lists the fields that differ; before nil: all that are set.
func differences(before, after proto.Message) (out []*adminv1.FieldChange) {
	fields := after.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if readOnly(f) || isTwin(f) {
			continue
		}
		x := &adminv1.FieldChange{Field: string(f.Name()), After: fieldJSON(after, f)}
		if before != nil {
			x.Before = fieldJSON(before, f)
		}
		if x.Before == x.After {
			continue
		}
		if secretField(f) {
			x.Before, x.After = "", masked
		}
		out = append(out, x)
	}
	return out
}

// fieldJSON is the JSON of one field; "" where it is not set.
func fieldJSON(m proto.Message, f protoreflect.FieldDescriptor) string {
	if !m.ProtoReflect().Has(f) {
		return ""
	}
	one := m.ProtoReflect().New()
	one.Set(f, m.ProtoReflect().Get(f))
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(one.Interface())
	if err != nil {
		return ""
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(text, &parts) != nil {
		return ""
	}
	var compact bytes.Buffer // protojson's spaces differ from build to build
	if json.Compact(&compact, parts[string(f.Name())]) != nil {
		return ""
	}
	return compact.String()
}
