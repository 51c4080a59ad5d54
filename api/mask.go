package api

import (
	"strings"

	"go.einride.tech/aip/fieldmask"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// cleanMask returns the fields that a mask names, of those that can be changed. Without one it is those that
// are given. Fields that the gateway alone sets are left out: who reads a resource, changes a part and sends
// all of it back means no harm.
func cleanMask(mask *fieldmaskpb.FieldMask, m proto.Message) (*fieldmaskpb.FieldMask, error) {
	out := &fieldmaskpb.FieldMask{}
	switch {
	case fieldmask.IsFullReplacement(mask):
		out.Paths = changeable(m.ProtoReflect().Descriptor())
	case len(mask.GetPaths()) == 0:
		m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if !readOnly(f) {
				out.Paths = append(out.Paths, string(f.Name()))
			}
			return true
		})
	default:
		for _, path := range mask.GetPaths() {
			only, err := checkPath(path, m)
			if err != nil {
				return nil, err
			}
			if !only {
				out.Paths = append(out.Paths, path)
			}
		}
	}
	if len(out.Paths) == 0 {
		return nil, invalid("update_mask", "there is nothing to change: give a field, or name one here to clear it: %s", strings.Join(changeable(m.ProtoReflect().Descriptor()), ", "))
	}
	return out, nil
}

// checkPath refuses a path that leads to no field, and says of others whether it is read-only.
func checkPath(path string, m proto.Message) (only bool, err error) {
	top, rest, nested := strings.Cut(path, ".")
	whole := m.ProtoReflect().Descriptor()
	f := whole.Fields().ByName(protoreflect.Name(top))
	if f == nil {
		return false, invalid("update_mask", "%.64q is no field that can be changed: those are %s", path, strings.Join(changeable(whole), ", "))
	}
	only = readOnly(f)
	for nested {
		if f.IsList() || f.IsMap() || f.Message() == nil || f.Message().ParentFile().Package() != whole.ParentFile().Package() {
			return false, invalid("update_mask", "%.64q: %s is changed as a whole: name that", path, f.Name())
		}
		in := f.Name()
		top, rest, nested = strings.Cut(rest, ".")
		if f = f.Message().Fields().ByName(protoreflect.Name(top)); f == nil {
			return false, invalid("update_mask", "%s has no field %.64q", in, top)
		}
	}
	return only, nil
}

// changeable names the fields of a message that can be changed.
func changeable(m protoreflect.MessageDescriptor) (names []string) {
	fields := m.Fields()
	for i := range fields.Len() {
		if !readOnly(fields.Get(i)) {
			names = append(names, string(fields.Get(i).Name()))
		}
	}
	return names
}

// readOnly says whether a field is not for change: it is set by the gateway, or tells which resource is meant.
func readOnly(f protoreflect.FieldDescriptor) bool {
	return f.Name() == "etag" || f.Name() == "id" || outputOnly(f)
}

// merge copies the fields that the mask names.
func merge(mask *fieldmaskpb.FieldMask, to, from proto.Message) {
	for _, path := range mask.GetPaths() {
		// A reference is given by name or by id; the other way must not keep the old one.
		for _, twin := range []string{strings.TrimSuffix(path, "_id"), path + "_id"} {
			f := to.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(twin))
			if twin != path && f != nil {
				to.ProtoReflect().Clear(f)
			}
		}
	}
	fieldmask.Update(mask, to, from)
}
