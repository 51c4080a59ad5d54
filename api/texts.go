package api

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// checkTexts refuses the character U+0000 in any text of a message: Postgres can't hold it.
func checkTexts(m protoreflect.Message, path string) (err error) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := path + string(f.Name())
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, x protoreflect.Value) bool {
				if err = checkText(f.MapKey(), k.Value(), at); err == nil {
					err = checkText(f.MapValue(), x, at)
				}
				return err == nil
			})
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = checkText(f, v.List().Get(i), item(at, i))
			}
		default:
			err = checkText(f, v, at)
		}
		return err == nil
	})
	return err
}

// checkText is checkTexts for one value.
func checkText(f protoreflect.FieldDescriptor, v protoreflect.Value, at string) error {
	switch {
	case f.Message() != nil:
		return checkTexts(v.Message(), at+".")
	case f.Kind() == protoreflect.StringKind && strings.Contains(v.String(), "\x00"):
		return invalid(at, "must not hold the character U+0000")
	}
	return nil
}
