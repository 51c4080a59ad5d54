package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// rerateBatch bounds the calls that are rated again in one transaction.
const rerateBatch = 1000

// A Period is the calls that are to be rated again.
type Period struct {
	From, To time.Time // of their start, To excluded
	Provider logos.ProviderID
	Model    logos.ModelID // of attempts; 0: any
	Reason   string
	DryRun   bool // only say what would change
}

// Rerated says what rating a period again changed, or would.
type Rerated struct {
	Calls, Adjustments int64
	Known, Unpriced    int64                      // quantities that had no price and have one now; calls of which some still has none
	Amounts            map[string]decimal.Decimal // by currency
}

// Rerate rates calls again, by the prices that rate knows, and adds an adjustment for each difference. Done twice it
// changes nothing more. What has no price any more keeps what it cost. Calls that are recorded meanwhile are not
// among them, if they are of the period.
func (s *Store) Rerate(ctx context.Context, p Period, rate func(*logos.Call)) (Rerated, error) {
	r := Rerated{Amounts: make(map[string]decimal.Decimal)}
	var after db.CallsFromRow
	after.CallID = "00000000-0000-0000-0000-000000000000"
	for {
		rows, err := db.New(s.pool).CallsFrom(ctx, db.CallsFromParams{BeginAt: p.From, EndAt: p.To, AfterStart: after.StartAt, AfterID: after.CallID, Most: rerateBatch})
		if err != nil {
			return r, fmt.Errorf("read the calls of a period: %w", err)
		}
		if len(rows) == 0 {
			return r, s.auditRerating(ctx, p, &r)
		}
		if err := s.rerateSome(ctx, p, rate, rows, &r); err != nil {
			return r, fmt.Errorf("rate calls again: %w", err)
		}
		after = rows[len(rows)-1]
	}
}

func (s *Store) rerateSome(ctx context.Context, p Period, rate func(*logos.Call), rows []db.CallsFromRow, r *Rerated) error {
	starts, ids := make([]time.Time, len(rows)), make([]string, len(rows))
	for i, x := range rows {
		starts[i], ids[i] = x.StartAt, x.CallID
	}
	var some Rerated
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.LockLedger(ctx, ledgerLock); err != nil {
			return err
		}
		found, err := readUsage(ctx, q, starts, ids)
		if err != nil {
			return err
		}
		some = Rerated{Amounts: make(map[string]decimal.Decimal)}
		changes := some.differences(p, rate, found)
		if p.DryRun {
			return nil
		}
		_, err = addAdjustments(ctx, tx, changes)
		return err
	})
	if err == nil {
		r.add(&some)
	}
	return err
}

func (r *Rerated) add(o *Rerated) {
	r.Calls, r.Adjustments, r.Known, r.Unpriced = r.Calls+o.Calls, r.Adjustments+o.Adjustments, r.Known+o.Known, r.Unpriced+o.Unpriced
	for currency, amount := range o.Amounts {
		r.Amounts[currency] = r.Amounts[currency].Add(amount)
	}
}

// differences returns what is to be added to calls, and counts it.
func (r *Rerated) differences(p Period, rate func(*logos.Call), calls []*usage) (out []adjusted) {
	for _, u := range calls {
		x := adjusted{usage: u}
		unknown := u.unknownLines()
		for _, a := range u.ratedAgain(rate) {
			if p.Provider != 0 && a.now.Target.Provider != p.Provider || p.Model != 0 && a.now.Target.Model != p.Model {
				continue
			}
			x.add = append(x.add, u.difference(a.was, a.now, p.Reason)...)
		}
		for _, j := range x.add {
			if j.makesKnown {
				r.Known++
				unknown--
			}
			r.Amounts[j.Currency] = r.Amounts[j.Currency].Add(j.Amount)
		}
		if unknown > 0 {
			r.Unpriced++
		}
		if len(x.add) == 0 {
			continue
		}
		x.settles = unknown == 0 && u.unknownLines() > 0
		r.Calls, r.Adjustments = r.Calls+1, r.Adjustments+int64(len(x.add))
		out = append(out, x)
	}
	return out
}

// A rerating is an attempt as it is on record, and as it is rated now.
type rerating struct{ was, now *logos.Attempt }

// ratedAgain rates a copy of the call.
func (u *usage) ratedAgain(rate func(*logos.Call)) (out []rerating) {
	again := *u.Call
	again.Attempts = slices.Clone(u.Attempts)
	for i := range again.Attempts {
		// What is charged for the request itself is a matter of prices, not of what was used.
		a := &again.Attempts[i]
		a.Meters = slices.DeleteFunc(slices.Clone(a.Meters), func(r logos.MeterReading) bool { return r.Meter == logos.MeterRequest })
		a.Charge = nil
	}
	rate(&again)
	for i := range again.Attempts {
		out = append(out, rerating{&u.Attempts[i], &again.Attempts[i]})
	}
	return out
}

// A lineState is what one meter of an attempt costs by now.
type lineState struct {
	known   bool
	amounts map[string]decimal.Decimal // by currency
}

// lineStates returns what the meters of an attempt cost, with what earlier ratings changed.
func (u *usage) lineStates(a *logos.Attempt) map[logos.Meter]*lineState {
	out := make(map[logos.Meter]*lineState)
	at := func(m logos.Meter) *lineState {
		if out[m] == nil {
			out[m] = &lineState{known: true, amounts: make(map[string]decimal.Decimal)}
		}
		return out[m]
	}
	for _, l := range a.Charge.Lines {
		x := at(l.Meter)
		if x.known = l.Price != nil || l.Quantity == 0; l.Price != nil {
			x.amounts[a.Charge.Currency] = l.Cost
		}
	}
	for _, j := range u.adjustments {
		if j.Kind == Rerating && j.Attempt == a.Number {
			x := at(j.Meter)
			x.amounts[j.Currency] = x.amounts[j.Currency].Add(j.Amount)
			x.known = x.known || j.makesKnown
		}
	}
	return out
}

// unknownLines counts what of a call has no price by now.
func (u *usage) unknownLines() (n int) {
	for i := range u.Attempts {
		for _, x := range u.lineStates(&u.Attempts[i]) {
			if !x.known {
				n++
			}
		}
	}
	return n
}

// difference returns what makes an attempt cost what it is rated at now.
func (u *usage) difference(was, now *logos.Attempt, reason string) (out []*Adjustment) {
	states := u.lineStates(was)
	wanted := make(map[logos.Meter]*logos.ChargeLine)
	for i := range now.Charge.Lines {
		wanted[now.Charge.Lines[i].Meter] = &now.Charge.Lines[i]
	}
	for _, m := range metersOf(states, wanted) {
		x, l := states[m], wanted[m]
		if x == nil {
			x = &lineState{known: true}
		}
		if l != nil && l.Price == nil {
			continue // no price: it keeps what it cost
		}
		out = append(out, x.entries(was.Number, m, l, now.Charge.Currency, reason)...)
	}
	return out
}

func metersOf(states map[logos.Meter]*lineState, wanted map[logos.Meter]*logos.ChargeLine) []logos.Meter {
	all := make(map[logos.Meter]bool)
	for m := range states {
		all[m] = true
	}
	for m := range wanted {
		all[m] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// entries brings one meter from what it costs to what it shall cost; a nil line: nothing.
func (x *lineState) entries(attempt int, m logos.Meter, l *logos.ChargeLine, currency, reason string) (out []*Adjustment) {
	change := make(map[string]decimal.Decimal)
	for c, amount := range x.amounts {
		change[c] = amount.Neg()
	}
	var version int64
	if l != nil {
		change[currency] = change[currency].Add(l.Cost)
		version = l.Price.Version
	}
	for _, c := range slices.Sorted(maps.Keys(change)) {
		known := l != nil && !x.known && c == currency
		if change[c].IsZero() && !known {
			continue
		}
		out = append(out, &Adjustment{Attempt: attempt, Meter: m, Kind: Rerating, Amount: change[c], Currency: c, PriceVersion: version, Reason: reason, makesKnown: known})
	}
	return out
}

// auditRerating has the audit say that a period was rated again.
func (s *Store) auditRerating(ctx context.Context, p Period, r *Rerated) error {
	if p.DryRun || r.Adjustments == 0 {
		return nil
	}
	after := map[string]any{"from": p.From, "to": p.To, "calls": r.Calls, "adjustments": r.Adjustments, "reason": p.Reason}
	_, err := s.pool.Exec(ctx, `insert into audit_events (revision, method, kind, resource_id, after) select revision, 'RerateCalls', 'adjustment', 0, $1 from config_revision`, after)
	return errors.Join(err, ctx.Err())
}
