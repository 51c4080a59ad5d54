package logos

import (
	"cmp"
	"context"
	"time"
)

// A CounterID names a counter of a budget: that of one value of its [Budget.Each], in one window.
type CounterID struct {
	Budget BudgetID
	Key    string // e.g. "project:7"; empty: the budget has one counter
	Start  int64  // of the window, seconds since 1970; 0: it has neither beginning nor end
}

// A Reservation is what a call holds of a counter until it is settled. It travels in the decision, so that
// whoever settles the call knows all of it.
type Reservation struct {
	Budget   BudgetID   `json:"b"`
	Key      string     `json:"k,omitempty"`
	Start    int64      `json:"w,omitempty"`
	End      int64      `json:"e,omitempty"` // of the window; 0: none
	Unit     BudgetUnit `json:"u"`
	Currency string     `json:"c,omitempty"`
	Amount   int64      `json:"a,omitempty"` // in the unit's smallest parts
	Hard     bool       `json:"h,omitempty"`
	// Targets has bit n-1 set for each target n whose use counts.
	Targets uint8 `json:"t"`
}

// Counter returns what the reservation is held of.
func (r *Reservation) Counter() CounterID { return CounterID{r.Budget, r.Key, r.Start} }

// A Spending is what a settled call has used of a counter.
type Spending struct {
	Counter CounterID
	End     int64
	Amount  int64
	Overrun int64 // by how much it is more than was reserved
}

// A Share is the part of a counter that one gateway may use: what it has settled, what it has reserved and what
// it may still reserve are together at most Granted.
type Share struct {
	Counter CounterID
	Granted int64
	Settled int64
	Version int64 // grows with Settled
	Free    int64 // that nobody has been granted
	Live    int   // gateways with a share that is in force
}

// A ShareRequest asks for the share of one gateway to be brought up to date.
type ShareRequest struct {
	Counter  CounterID
	End      int64 // of the window, seconds since 1970; 0: none
	Reserved int64 // by open calls
	Held     int64 // granted before, and not given back
	Need     int64 // that calls wait for
	Slack    int64 // wanted beyond, so that the next calls need not ask
	Step     int64 // what one call needs: slack in other amounts would leave fragments that nobody can use
}

// Grant returns what the gateway shall be granted, given the counter's limit, its share as it stands, what
// others have (of each the greater of granted and settled), and how many shares are in force. What it needs comes
// first; of what is left beyond, each gets a part, so that those who ask later find something. It never takes back
// what open calls hold, and otherwise nothing that the limit allows.
func (r *ShareRequest) Grant(limit int64, own Share, others int64, live int) int64 {
	keep := own.Settled + r.Reserved
	most := max(limit-others, own.Settled, min(keep, own.Granted))
	granted := min(max(r.Held, satAdd(keep, r.Need)), most)
	if wanted := satAdd(satAdd(keep, r.Need), r.Slack); wanted > granted {
		more := min(wanted-granted, (most-granted)/int64(2*max(live, 1)))
		granted += more - more%max(r.Step, 1)
	}
	return granted
}

func satAdd(a, b int64) int64 { return min(a, maxBudget) + min(b, maxBudget) }

// A Gateway names a process in what it leases.
type Gateway struct {
	ID    string
	Epoch int64 // of its processes the latest one has the greatest
	// Lease is for how long a share may be used without the database, and Hold for how long what open calls hold is
	// kept when no more is heard.
	Lease, Hold time.Duration
	// Steady says that it has reached the database for so long that another one, which could reach it too, would have
	// settled what it had to. Before, what that held is not free, though nothing was heard of it.
	Steady bool
}

// Leases are the shares as a database keeps them.
type Leases interface {
	// Lease brings shares up to date, all in one transaction. An error of kind Conflict means that another
	// process runs as this gateway.
	Lease(ctx context.Context, g Gateway, requests []ShareRequest) ([]Share, error)
}

// Compare orders counters, in one way for all who lock several.
func (c CounterID) Compare(d CounterID) int {
	return cmp.Or(cmp.Compare(c.Budget, d.Budget), cmp.Compare(c.Start, d.Start), cmp.Compare(c.Key, d.Key))
}

// A CounterSum is what all gateways have settled of a counter, and the threshold in per cent that was told of last.
type CounterSum struct {
	Counter CounterID
	Settled int64
	Told    int
}
