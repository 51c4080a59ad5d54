package store

import (
	"context"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// A usage is a call as far as it is on record, with what corrects it: without its decision but for who called.
type usage struct {
	*logos.Call
	adjustments []*Adjustment
	settledAt   time.Time
}

// readUsage returns the calls of these keys that are on record, in the order of their keys.
func readUsage(ctx context.Context, q *db.Queries, starts []time.Time, ids []string) ([]*usage, error) {
	calls, err := q.UsageCalls(ctx, db.UsageCallsParams{StartAt: starts, CallID: ids})
	if err != nil {
		return nil, fmt.Errorf("read calls: %w", err)
	}
	type key struct {
		start int64
		id    string
	}
	found := make(map[key]*usage, len(calls))
	for i := range calls {
		found[key{calls[i].StartAt.UnixMicro(), calls[i].CallID}] = readUsageCall(&calls[i])
	}
	attempts, err := q.UsageAttempts(ctx, db.UsageAttemptsParams{StartAt: starts, CallID: ids})
	if err != nil {
		return nil, fmt.Errorf("read attempts: %w", err)
	}
	for i := range attempts {
		if u := found[key{attempts[i].StartAt.UnixMicro(), attempts[i].CallID}]; u != nil {
			u.Attempts = append(u.Attempts, readAttempt(&attempts[i]))
		}
	}
	meters, err := q.UsageMeters(ctx, db.UsageMetersParams{StartAt: starts, CallID: ids})
	if err != nil {
		return nil, fmt.Errorf("read meters: %w", err)
	}
	for _, m := range meters {
		if u := found[key{m.StartAt.UnixMicro(), m.CallID}]; u != nil {
			u.addMeter(&db.MetersRow{Attempt: m.Attempt, Meter: m.Meter, Quantity: m.Quantity, Estimated: m.Estimated, Cost: m.Cost, PriceVersion: m.PriceVersion})
		}
	}
	adjustments, err := q.UsageAdjustments(ctx, db.UsageAdjustmentsParams{StartAt: starts, CallID: ids})
	if err != nil {
		return nil, fmt.Errorf("read adjustments: %w", err)
	}
	for i := range adjustments {
		if u := found[key{adjustments[i].StartAt.UnixMicro(), adjustments[i].CallID}]; u != nil {
			u.adjustments = append(u.adjustments, readAdjustment(&adjustments[i]))
		}
	}
	out := make([]*usage, 0, len(calls))
	for i := range calls {
		out = append(out, found[key{calls[i].StartAt.UnixMicro(), calls[i].CallID}])
	}
	return out, nil
}

func readUsageCall(r *db.UsageCallsRow) *usage {
	return &usage{
		Call: &logos.Call{
			ID: logos.CallID(r.CallID), Gateway: r.Gateway, Status: int(zero(r.Status)), End: logos.EndReason(r.EndReason), ServiceTier: r.ServiceTier,
			Decision: logos.Decision{
				Start: r.StartAt.UnixMicro(), API: logos.API(r.Api), Model: r.Model, Team: logos.TeamID(zero(r.TeamID)), Project: logos.ProjectID(r.ProjectID),
				APIKey: logos.APIKeyID(r.ApiKeyID), Profile: logos.ProfileID(zero(r.ProfileID)), EndUser: r.EndUser, Session: r.Session,
			},
		},
		settledAt: r.SettledAt,
	}
}

func readAttempt(a *db.Attempt) logos.Attempt {
	return logos.Attempt{
		Number: int(a.Attempt), Start: a.StartedAt, Duration: micros(a.DurationUs), Status: int(zero(a.Status)),
		Target: logos.DecisionTarget{
			Deployment: logos.DeploymentID(zero(a.DeploymentID)), Model: logos.ModelID(zero(a.ModelID)),
			Provider: logos.ProviderID(a.ProviderID), Credential: logos.CredentialID(zero(a.CredentialID)), Cluster: a.Cluster,
		},
		End: logos.EndReason(a.EndReason), ProviderRequestID: a.ProviderRequestID, Detail: a.Detail,
		Charge: readCharge(a),
	}
}

func (u *usage) addMeter(m *db.MetersRow) {
	for i := range u.Attempts {
		if a := &u.Attempts[i]; a.Number == int(m.Attempt) {
			l := readLine(m)
			if m.Cost.Valid && l.Price == nil {
				l.Price = &logos.Price{} // that it was charged is known, by what is not
			}
			a.Meters, a.Charge.Lines = append(a.Meters, l.MeterReading), append(a.Charge.Lines, l)
			if l.Price == nil && l.Quantity > 0 {
				a.Charge.Missing = append(a.Charge.Missing, l.Meter)
			}
		}
	}
}

// cost is what a call costs by now, by currency, as far as that is known.
func (u *usage) cost() map[string]decimal.Decimal {
	out := make(map[string]decimal.Decimal)
	for _, a := range u.Attempts {
		for _, l := range a.Charge.Lines {
			out[a.Charge.Currency] = out[a.Charge.Currency].Add(l.Cost)
		}
	}
	for _, j := range u.adjustments {
		out[j.Currency] = out[j.Currency].Add(j.Amount)
	}
	return out
}
