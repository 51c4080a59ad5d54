package budget

import (
	"fmt"
	"time"

	"github.com/ls1intum/edutelligence/logos"
)

// The codes of refusals: of money, and of all else.
const (
	Exceeded          = "budget_exceeded"
	RateLimitExceeded = "rate_limit_exceeded"
)

// A Shortage is why a budget refuses a call.
type Shortage struct {
	*logos.Budget
	Unknown bool   // it would have to count money or tokens of which no bound is known
	Passes  bool   // since the call passes through
	What    string // of the request is why; empty: nothing of it
	Bound   bool   // a context window of the model would bound it
	Full    bool   // the gateway keeps as many counters as it can
	Away    bool   // the database does not say how much there is
	Needed  int64
	Left    int64
	Held    int64     // by open calls of this gateway
	Resets  time.Time // zero: never
	now     time.Time
}

func (c *Call) shortage(e *entry, needed int64) *Shortage {
	s := &Shortage{Budget: e.Budget, Needed: needed, Left: e.limit, now: c.now}
	if x := c.lastTry(e); x != nil {
		s.Left, s.Held = x.left, x.held
	}
	if _, end := e.window(c.now); end > 0 {
		s.Resets = time.Unix(end, 0)
	}
	return s
}

// unknown says why nobody knows what a call would use of a budget at a target.
func (e *entry) unknown(t *Target, s *Size) *Shortage {
	x := &Shortage{Budget: e.Budget, Unknown: true}
	if _, known := s.InputAt(t.Target); !known {
		x.What, x.Passes, x.Bound = s.What, s.What == "", !s.Unbounded
	}
	return x
}

// Error is what the caller is told.
func (s *Shortage) Error() *logos.Error {
	switch {
	case s.Full:
		return logos.Errorf(logos.Unavailable, "too_many_counters", "the gateway counts for as many as it can, and the budget %q has a counter for each: try again in a few seconds", s.Name)
	case s.Away:
		return logos.Errorf(logos.Unavailable, "budget_unavailable", "the gateway can't reach its database, and what it may use of the budget %q without it is used up: try again in a few seconds", s.Name)
	case s.Passes:
		return logos.Errorf(logos.Denied, "budget_needs_model", "the budget %q limits %s, and of calls that pass through nobody knows how much they use before: call by a model that the key's access profile grants", s.Name, s.Unit)
	case s.Bound:
		return logos.Errorf(logos.Denied, "budget_needs_bound", "the budget %q limits %s, and what the request's %q adds to its input nobody knows before: leave it out, or have the model's context_window set, which bounds it", s.Name, s.Unit, s.What)
	case s.What != "":
		return logos.Errorf(logos.Denied, "budget_needs_bound", "the budget %q limits %s, and with the request's %q nothing bounds what it uses: leave it out, or ask for an API key that the budget does not count", s.Name, s.Unit, s.What)
	case s.Unknown:
		return logos.Errorf(logos.Denied, "deployment_unpriced", "the budget %q limits money, and no deployment that could serve this call has a price in %s: an administrator sets one with `logos prices set --currency %[2]s`, an explicit 0 included, and `logos prices unpriced` shows what has none at all", s.Name, s.Currency)
	}
	kind, code := logos.Exhausted, RateLimitExceeded
	if s.Unit == logos.UnitMoney {
		kind, code = logos.PaymentRequired, Exceeded
	}
	e := logos.Errorf(kind, code, "the budget %q allows %s%s%s; %s%s. %s", s.Name, s.quantity(s.amount()), s.each(), s.window(), s.uses(), s.resets(), s.advice())
	e.RetryAfter = s.retryAfter()
	return e
}

func (s *Shortage) amount() int64 { return s.Unit.Amount(s.Limit) }

func (s *Shortage) quantity(amount int64) string {
	text := s.Unit.Quantity(amount).String()
	switch s.Unit {
	case logos.UnitMoney:
		return text + " " + s.Currency
	case logos.UnitParallel:
		return text + " calls at once"
	}
	return text + " " + string(s.Unit)
}

func (s *Shortage) each() string {
	switch s.Each {
	case logos.EachNone:
		return ""
	case logos.EachEndUser:
		return " for each end user"
	case logos.EachAPIKey:
		return " for each API key"
	}
	return " for each " + string(s.Each)
}

func (s *Shortage) window() string {
	if s.Window == logos.WindowTotal {
		return ""
	}
	return " a " + string(s.Window)
}

func (s *Shortage) uses() string {
	if s.Unit == logos.UnitParallel || s.Unit == logos.UnitRequests {
		return "all of them are taken"
	}
	held := ""
	if s.Held > 0 {
		held = fmt.Sprintf(", %s is held by calls under way", s.quantity(s.Held))
	}
	return fmt.Sprintf("%s is left%s, and this call may use %s", s.quantity(s.Left), held, s.quantity(s.Needed))
}

// mayReturn says whether there may be room when calls that are under way have ended. Requests stay used.
func (s *Shortage) mayReturn() bool {
	return s.Unit == logos.UnitParallel || s.Unit != logos.UnitRequests && s.Needed <= s.Left+s.Held
}

func (s *Shortage) resets() string {
	if s.Resets.IsZero() {
		return ""
	}
	zone := s.Zone
	if zone == nil {
		zone = time.UTC
	}
	return ", until " + s.Resets.In(zone).Format("2006-01-02 15:04:05 MST")
}

func (s *Shortage) advice() string {
	switch {
	case s.Unit == logos.UnitParallel:
		return "Try again when one of them has ended"
	case s.mayReturn():
		return "Try again when they have ended, lower max_tokens, or ask for a larger budget"
	case s.Unit == logos.UnitRequests && s.Needed > s.amount():
		return "Ask for a larger budget"
	case s.Needed > s.amount():
		return "It is more than the whole budget: lower max_tokens, shorten the request, or ask for a larger budget"
	case s.Unit == logos.UnitRequests:
		return "Try again then, or ask for a larger budget"
	}
	return "Lower max_tokens, try again then, or ask for a larger budget"
}

// retryAfter says when it makes sense to try again; 0: never.
func (s *Shortage) retryAfter() time.Duration {
	switch {
	case s.mayReturn():
		return time.Second
	case s.Resets.IsZero() || s.Needed > s.amount():
		return 0
	}
	return max(time.Second, s.Resets.Sub(s.now))
}
