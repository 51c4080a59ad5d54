package api

import (
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// outputOnly says whether the gateway alone sets a field.
func outputOnly(f protoreflect.FieldDescriptor) bool {
	behaviours, _ := proto.GetExtension(f.Options(), annotations.E_FieldBehavior).([]annotations.FieldBehavior)
	for _, b := range behaviours {
		if b == annotations.FieldBehavior_OUTPUT_ONLY {
			return true
		}
	}
	return false
}

// secretField says whether a field holds a secret.
func secretField(f protoreflect.FieldDescriptor) bool {
	o, ok := f.Options().(*descriptorpb.FieldOptions)
	return ok && o.GetDebugRedact()
}

// storable refuses texts that the database can't hold.
func storable(path string, m protoreflect.Message) (err error) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		here := string(f.Name())
		if path != "" {
			here = path + "." + here
		}
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				if err = noNUL(here, k.String()); err == nil && f.MapValue().Kind() == protoreflect.StringKind {
					err = noNUL(here, v.String())
				}
				return err == nil
			})
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = storableValue(item(here, i), f, v.List().Get(i))
			}
		default:
			err = storableValue(here, f, v)
		}
		return err == nil
	})
	return err
}

func storableValue(path string, f protoreflect.FieldDescriptor, v protoreflect.Value) error {
	switch {
	case f.Message() != nil:
		return storable(path, v.Message())
	case f.Kind() == protoreflect.StringKind:
		return noNUL(path, v.String())
	}
	return nil
}

func noNUL(path, text string) error {
	if strings.ContainsRune(text, 0) {
		return invalid(path, "must not hold the character NUL")
	}
	return nil
}
