package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// An AdjustmentKind says why an adjustment was made.
type AdjustmentKind string

// The kinds of adjustments.
const (
	Rerating   AdjustmentKind = "rerating"   // a period was rated again, by other prices
	Refund     AdjustmentKind = "refund"     // somebody gave money back
	Correction AdjustmentKind = "correction" // somebody corrected a record
)

// An Adjustment changes what a call costs. It is an entry of its own: neither the record nor an adjustment is
// ever edited.
type Adjustment struct {
	ID           int64
	Attempt      int         // 0: the call as a whole
	Meter        logos.Meter // empty: no single one
	Kind         AdjustmentKind
	Amount       decimal.Decimal // below 0: less is to be paid
	Currency     string
	PriceVersion int64 // 0: none
	Reason       string
	Key          logos.APIKeyID // who made it; 0: who may use the database
	Member       logos.MemberID
	At           time.Time

	makesKnown bool // the meter had no price before
}

// Adjustments are the corrections of what calls cost.
var Adjustments = &Kind{
	Name: "adjustment", table: "adjustments", bare: true, order: []term{{"r.at", "timestamptz", true}, {"r.id", "bigint", true}},
	fields: []field{
		{"time", "r.at", moment},
		{"call_id", "r.call_id::text", text},
		{"call_start", "r.start_at", moment},
		{"attempt", "coalesce(r.attempt, 0)", integer},
		{"meter", "r.meter", text},
		{"kind", "r.kind", text},
		{"amount", "trim_scale(r.amount)::text", shown},
		{"currency", "r.currency", text},
		{"price_version", "coalesce(r.price_version, 0)", integer},
		{"reason", "r.reason", text},
		{"team_id", "coalesce(r.team_id, 0)", integer},
		{"project_id", "r.project_id", integer},
		{"api_key_id", "r.api_key_id", integer},
		{"author_key_id", "coalesce(r.author_key_id, 0)", integer},
		{"author_member_id", "coalesce(r.author_member_id, 0)", integer},
	},
	within: reach{
		team: "r.team_id = @", project: "r.project_id = @",
		member: "r.api_key_id in (select id from api_keys where member_id = @)",
	},
}

// ledgerLock has adjustments made one after another.
const ledgerLock = 0x6c6f676f76

// Adjust adds an adjustment of a call, with its audit event. Money that was not paid can't be refunded.
func (t *Tx) Adjust(ctx context.Context, id logos.CallID, j Adjustment) (int64, error) {
	if err := t.q.LockLedger(ctx, ledgerLock); err != nil {
		return 0, err
	}
	start, err := t.startOf(ctx, id)
	if err != nil {
		return 0, err
	}
	found, err := readUsage(ctx, t.q, []time.Time{start}, []string{string(id)})
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, errNoCall(id)
	}
	if err := found[0].mayTake(&j); err != nil {
		return 0, err
	}
	j.Key, j.Member = t.actor.Key, t.actor.Member
	ids, err := addAdjustments(ctx, t.tx, []adjusted{{found[0], []*Adjustment{&j}, false}})
	if err != nil {
		return 0, err
	}
	return ids[0], t.Created(ctx, Adjustments, ids[0])
}

func (t *Tx) startOf(ctx context.Context, id logos.CallID) (start time.Time, err error) {
	rows, err := t.tx.Query(ctx, "select start_at from calls where call_id = $1", string(id))
	if err != nil {
		return start, err
	}
	starts, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err == nil && len(starts) == 0 {
		err = errNoCall(id)
	}
	if err != nil {
		return start, err
	}
	return starts[0], nil
}

func errNoCall(id logos.CallID) error {
	return logos.Errorf(logos.NotFound, "not_found", "there is no call %s: a call is recorded a moment after it ended", id)
}

// mayTake refuses what would not fit to a call.
func (u *usage) mayTake(j *Adjustment) error {
	if j.Attempt != 0 {
		a := attemptOf(u.Call, j.Attempt)
		if a == nil || a.Number != j.Attempt {
			return logos.Errorf(logos.Invalid, "invalid_attempt", "the call has no attempt %d: it has %d; 0 stands for the whole call", j.Attempt, len(u.Attempts))
		}
	}
	if j.Kind != Refund {
		return nil
	}
	left := u.cost()[j.Currency]
	if left.Add(j.Amount).IsNegative() {
		return logos.Errorf(logos.Conflict, "refund_too_large", "the call costs %s %s by now, and no more can be refunded", left, j.Currency)
	}
	return nil
}

// adjusted is a call with what is to be added to it.
type adjusted struct {
	*usage
	add     []*Adjustment
	settles bool // nothing of the call's cost is unknown any more by it
}

// addAdjustments stores adjustments, of one kind and reason, and adds them to the totals.
func addAdjustments(ctx context.Context, tx pgx.Tx, all []adjusted) (ids []int64, err error) {
	var p db.InsertAdjustmentsParams
	total := make(tally)
	for _, x := range all {
		for i, j := range x.add {
			p.Kind, p.Reason, p.AuthorKeyID, p.AuthorMemberID = string(j.Kind), clean(j.Reason), int64(j.Key), int64(j.Member)
			addAdjustment(&p, x.Call, j)
			total.adjust(x.Call, j, x.settles && i == 0)
		}
	}
	if len(p.StartAt) == 0 {
		return nil, nil
	}
	if ids, err = db.New(tx).InsertAdjustments(ctx, p); err != nil {
		return nil, fmt.Errorf("add adjustments: %w", err)
	}
	return ids, addOwnTotals(ctx, tx, byLedger, total)
}

// addOwnTotals is addTotals, with new series in the same transaction.
func addOwnTotals(ctx context.Context, tx pgx.Tx, by string, t tally) error {
	if len(t) == 0 {
		return nil
	}
	ids := make(map[series]int64)
	var all []series
	for _, c := range t.cells() {
		if _, ok := ids[c.of]; !ok {
			ids[c.of] = 0
			all = append(all, c.of)
		}
	}
	if err := ensureSeries(ctx, tx, all, ids); err != nil {
		return fmt.Errorf("find what usage is of: %w", err)
	}
	return addTotals(ctx, tx, by, t, ids)
}

func addAdjustment(p *db.InsertAdjustmentsParams, c *logos.Call, j *Adjustment) {
	d := &c.Decision
	p.StartAt, p.CallID = append(p.StartAt, d.StartTime()), append(p.CallID, string(c.ID))
	p.Attempt, p.Meter = append(p.Attempt, int32(j.Attempt)), append(p.Meter, string(j.Meter))
	p.Amount, p.Currency = append(p.Amount, j.Amount.String()), append(p.Currency, j.Currency)
	p.MakesKnown, p.PriceVersion = append(p.MakesKnown, j.makesKnown), append(p.PriceVersion, j.PriceVersion)
	p.TeamID, p.ProjectID, p.ApiKeyID = append(p.TeamID, int64(d.Team)), append(p.ProjectID, int64(d.Project)), append(p.ApiKeyID, int64(d.APIKey))
}

func readAdjustment(r *db.Adjustment) *Adjustment {
	return &Adjustment{
		ID: r.ID, Attempt: int(zero(r.Attempt)), Meter: logos.Meter(r.Meter), Kind: AdjustmentKind(r.Kind), Amount: amount(r.Amount), Currency: r.Currency,
		PriceVersion: zero(r.PriceVersion), Reason: r.Reason, Key: logos.APIKeyID(zero(r.AuthorKeyID)), Member: logos.MemberID(zero(r.AuthorMemberID)),
		At: r.At, makesKnown: r.MakesKnown,
	}
}
