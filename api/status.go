package api

import (
	"context"
	"errors"
	"strings"

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
	logos.PaymentRequired: codes.ResourceExhausted,
}

// statusOf makes a google.rpc.Status of an error, with the field that it is about and a stable reason. An
// unexpected error shows nothing of itself.
func statusOf(err error) error {
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
	if bad := fieldsOf(err); len(bad) > 0 {
		message = bad.Error()
		shown := &errdetails.BadRequest{}
		for _, f := range bad {
			shown.FieldViolations = append(shown.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f.path, Description: f.err.Message})
		}
		details = append(details, shown)
	}
	return withDetails(codeOf[e.Kind], message, details...)
}

func withDetails(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	s, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		return status.Error(code, message)
	}
	return s.Err()
}

func isInternal(err error) bool { return status.Code(err) == codes.Internal }

// httpStatus is the status of a code.
func httpStatus(code codes.Code) int { return runtime.HTTPStatusFromCode(code) }

// errNotForTeams refuses what concerns the whole installation to who is of one team.
var errNotForTeams = logos.Errorf(logos.Denied, "not_allowed", "this concerns the whole installation: ask an admin")
