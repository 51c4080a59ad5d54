package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"buf.build/go/protovalidate"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/ls1intum/edutelligence/logos"
)

// errorDomain is the domain of the reasons in errors.
const errorDomain = "logos"

var errInternal = errors.New("the gateway failed: see its log")

// codeOf maps kinds of errors to gRPC's codes, from which the HTTP statuses follow.
var codeOf = map[logos.Kind]codes.Code{
	logos.Invalid: codes.InvalidArgument, logos.Unauthenticated: codes.Unauthenticated, logos.Denied: codes.PermissionDenied,
	logos.NotFound: codes.NotFound, logos.Exists: codes.AlreadyExists, logos.Conflict: codes.Aborted, logos.Exhausted: codes.ResourceExhausted,
	logos.TooLarge: codes.InvalidArgument, logos.Unavailable: codes.Unavailable, logos.Unsupported: codes.Unimplemented,
}

// A fieldError is an invalid value of one field.
type fieldError struct {
	path string
	err  *logos.Error
}

func (e *fieldError) Error() string { return e.path + ": " + e.err.Message }
func (e *fieldError) Unwrap() error { return e.err }

// invalid refuses the value of a field, saying what would be right.
func invalid(path, format string, args ...any) error {
	return &fieldError{path, logos.Errorf(logos.Invalid, "invalid_field", format, args...)}
}

// at says which field an error of the domain is about.
func at(path string, err error) error {
	if e, ok := errors.AsType[*logos.Error](err); ok && e.Kind == logos.Invalid {
		return &fieldError{path, e}
	}
	return err
}

// statusOf makes a google.rpc.Status of an error, with the field that it is about and a stable reason. An
// unexpected error shows nothing of itself.
func statusOf(err error) error {
	if v, ok := errors.AsType[*protovalidate.ValidationError](err); ok {
		return violations(v)
	}
	e, ok := errors.AsType[*logos.Error](err)
	if !ok {
		if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
			return err
		}
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return status.Error(codes.Unavailable, "the call was given up before it was done")
		}
		return status.Error(codes.Internal, errInternal.Error())
	}
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: strings.ToUpper(e.Code), Domain: errorDomain}}
	message := e.Message
	if f, ok := errors.AsType[*fieldError](err); ok {
		message = f.Error()
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: f.path, Description: e.Message}}})
	}
	return withDetails(codeOf[e.Kind], message, details...)
}

// violations shows what protovalidate found.
func violations(v *protovalidate.ValidationError) error {
	bad := &errdetails.BadRequest{}
	var texts []string
	for _, x := range v.Violations {
		path := protovalidate.FieldPathString(x.Proto.GetField())
		description := x.Proto.GetMessage()
		if description == "" {
			description = "does not hold: " + x.Proto.GetRuleId()
		}
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: path, Description: description})
		texts = append(texts, path+": "+description)
	}
	return withDetails(codes.InvalidArgument, strings.Join(texts, "; "), &errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: errorDomain}, bad)
}

func withDetails(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	s, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		return status.Error(code, message)
	}
	return s.Err()
}

func isInternal(err error) bool { return status.Code(err) == codes.Internal }

// httpStatus is the status of a code. What the admin API itself finds too early or too late is a conflict.
func httpStatus(code codes.Code) int { return runtime.HTTPStatusFromCode(code) }

// writeStatus writes an error of the admin API as a google.rpc.Status in JSON.
func writeStatus(w http.ResponseWriter, code codes.Code, reason, format string, args ...any) {
	writeJSON(w, httpStatus(code), map[string]any{
		"code": code, "message": fmt.Sprintf(format, args...),
		"details": []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": errorDomain}},
	})
}

// errNotForTeams refuses what concerns the whole installation to who is of one team.
var errNotForTeams = logos.Errorf(logos.Denied, "not_allowed", "this concerns the whole installation: ask an admin")
