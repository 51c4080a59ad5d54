package api

import (
	"errors"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/ls1intum/edutelligence/logos"
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

// within puts a path before that of the field that an error is about.
func within(path string, err error) error {
	if f, ok := errors.AsType[*fieldError](err); ok {
		return &fieldError{path + "." + f.path, f.err}
	}
	if e, ok := errors.AsType[*logos.Error](err); ok {
		return &fieldError{path, e}
	}
	return err
}
