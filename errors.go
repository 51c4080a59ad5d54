package logos

import (
	"errors"
	"fmt"
	"time"
)

// A Kind sorts errors by what their receiver can do about them. Each edge maps kinds once to its own
// statuses.
type Kind int

// The kinds of errors. Internal, the zero value, is what every error is that says nothing else.
const (
	Internal        Kind = iota
	Invalid              // the request is malformed
	Unauthenticated      // who asks is not known
	Denied               // who asks is known and may not
	NotFound             // there is no such thing
	Exists               // there is such a thing already
	Conflict             // it is not in the state that the request needs
	Exhausted            // a limit is reached
	TooLarge             // more bytes than a limit allows
	Unavailable          // try again later
	Unsupported          // not something Logos does
	PaymentRequired      // there is no money left for it
)

// An Error is an expected refusal. Message is written for the person who asked: it says what is wrong
// and what would be right, and holds no internals and no secrets.
type Error struct {
	Kind    Kind
	Code    string // stable, snake_case, e.g. "model_not_found"
	Message string

	RetryAfter time.Duration // when it makes sense to try again; 0: not known, or never
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Errorf makes an [*Error].
func Errorf(kind Kind, code, format string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Message: fmt.Sprintf(format, args...)}
}

// KindOf returns the kind of err: that of the first [*Error] in its chain, else Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
