package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/sql/internal/db"
)

// LogPositions returns how far a gateway's access logs are stored, one position an epoch.
func (s *Store) LogPositions(ctx context.Context, gateway string) ([]logos.LogPosition, error) {
	rows, err := db.New(s.pool).LogPositions(ctx, gateway)
	if err != nil {
		return nil, fmt.Errorf("read log positions: %w", err)
	}
	out := make([]logos.LogPosition, len(rows))
	for i, r := range rows {
		out[i] = logos.LogPosition{Epoch: r.Epoch, Generation: r.Generation, Offset: r.Byte}
	}
	return out, nil
}

// RecordCalls stores a batch: all of it, or nothing. What is stored already stays as it is, so that a
// batch may be stored again.
func (s *Store) RecordCalls(ctx context.Context, gateway string, b logos.LogBatch) error {
	_, err := s.SettleCalls(ctx, gateway, b)
	return err
}

// SettleCalls stores a batch like [Store.RecordCalls], and returns the gateway's shares of the counters of budgets
// that the calls have spent of: what is settled, and its version.
func (s *Store) SettleCalls(ctx context.Context, gateway string, b logos.LogBatch) (shares []logos.Share, err error) {
	var ids map[series]int64
	var spent []logos.Spending
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var later queue
		if len(b.Calls) > 0 {
			var fresh tally
			if fresh, spent, err = insertCalls(ctx, db.New(tx), db.New(&later), gateway, b.Calls); err != nil {
				return err
			}
			if ids, err = s.series.find(ctx, tx, fresh); err != nil {
				return err
			}
			if err := addTotals(ctx, &later, gateway, fresh, ids); err != nil {
				return err
			}
		}
		if err := noteProgress(ctx, db.New(&later), gateway, &b); err != nil {
			return err
		}
		if err := later.send(ctx, tx); err != nil {
			return err
		}
		// What gateways share comes last, so that leases, for which calls wait, wait as briefly as can be.
		shares, err = settle(ctx, db.New(tx), gateway, spent)
		return err
	})
	if err != nil {
		s.series.forget() // they may be those of a database that was there before
		return nil, fmt.Errorf("record %d calls: %w", len(b.Calls), err)
	}
	s.series.keep(ids)
	return shares, nil
}

// noteProgress stores what a batch has beside calls, and what they say of keys.
func noteProgress(ctx context.Context, q *db.Queries, gateway string, b *logos.LogBatch) error {
	for _, u := range b.Unknown {
		if err := q.InsertUnknownLine(ctx, db.InsertUnknownLineParams{Gateway: gateway, Epoch: u.Epoch, Generation: u.Generation, Byte: u.Offset, Line: u.Line}); err != nil {
			return err
		}
	}
	for _, p := range b.Positions {
		if err := q.SetLogPosition(ctx, db.SetLogPositionParams{Gateway: gateway, Epoch: p.Epoch, Generation: p.Generation, Byte: p.Offset}); err != nil {
			return err
		}
	}
	if len(b.Done) > 0 {
		if err := q.DeleteLogPositions(ctx, db.DeleteLogPositionsParams{Gateway: gateway, Epochs: b.Done}); err != nil {
			return err
		}
	}
	return noteKeyUse(ctx, q, b.Calls) // last, so that others wait for these rows as briefly as can be
}

// Recorded returns which of these calls are stored.
func (s *Store) Recorded(ctx context.Context, starts []time.Time, ids []logos.CallID) ([]logos.CallID, error) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	rows, err := db.New(s.pool).RecordedCalls(ctx, db.RecordedCallsParams{StartAt: starts, CallID: texts})
	if err != nil {
		return nil, fmt.Errorf("look up calls: %w", err)
	}
	out := make([]logos.CallID, len(rows))
	for i, r := range rows {
		out[i] = logos.CallID(r)
	}
	return out, nil
}

// insertCalls stores those calls that are not stored yet, what belongs to them later; it adds them up, and returns what
// they have spent of budgets: nothing for the others, whose counters are among it all the same, since the answer that
// told of them may be lost.
func insertCalls(ctx context.Context, q, later *db.Queries, gateway string, calls []*logos.Call) (total tally, spent []logos.Spending, err error) {
	c := db.InsertCallsParams{Gateway: gateway}
	for _, call := range calls {
		addCall(&c, call)
	}
	stored, err := q.InsertCalls(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	fresh := make(map[string]bool, len(stored))
	for _, id := range stored {
		fresh[id] = true
	}
	var a db.InsertAttemptsParams
	var m db.InsertMetersParams
	total = make(tally)
	for _, call := range calls {
		id := strings.ToLower(string(call.ID))
		if !fresh[id] { // its record stays as it is, also in its parts
			for i := range call.Spent {
				spent = append(spent, logos.Spending{Counter: call.Spent[i].Counter, End: call.Spent[i].End})
			}
			continue
		}
		delete(fresh, id) // should the batch hold it again
		total.call(call)
		spent = append(spent, call.Spent...)
		for i := range call.Attempts {
			attempt := &call.Attempts[i]
			addAttempt(&a, call, attempt)
			for _, l := range lines(attempt) {
				addMeter(&m, call, attempt, l)
			}
		}
	}
	if err := later.InsertAttempts(ctx, a); err != nil {
		return nil, nil, err
	}
	return total, spent, later.InsertMeters(ctx, m)
}

// noteKeyUse stores when each key was used last, to the minute: a busy key's row changes once a minute.
func noteKeyUse(ctx context.Context, q *db.Queries, calls []*logos.Call) error {
	last := make(map[int64]time.Time)
	for _, c := range calls {
		key, at := int64(c.Decision.APIKey), c.Decision.StartTime().Truncate(time.Minute)
		if at.After(last[key]) {
			last[key] = at
		}
	}
	if len(last) == 0 {
		return nil
	}
	var p db.NoteKeyUseParams
	for key, at := range last {
		p.Ids, p.At = append(p.Ids, key), append(p.At, at)
	}
	return q.NoteKeyUse(ctx, p)
}

func addCall(p *db.InsertCallsParams, c *logos.Call) {
	d := &c.Decision
	p.StartAt, p.CallID = append(p.StartAt, d.StartTime()), append(p.CallID, string(c.ID))
	p.Revision = append(p.Revision, d.Revision)
	p.Api, p.Stream, p.Model = append(p.Api, string(d.API)), append(p.Stream, d.Stream), append(p.Model, clean(d.Model))
	p.TeamID, p.ProjectID = append(p.TeamID, int64(d.Team)), append(p.ProjectID, int64(d.Project))
	p.ApiKeyID, p.ProfileID = append(p.ApiKeyID, int64(d.APIKey)), append(p.ProfileID, int64(d.Profile))
	p.EndUser, p.Session = append(p.EndUser, clean(d.EndUser)), append(p.Session, clean(d.Session))
	p.Method, p.Status = append(p.Method, clean(c.Method)), append(p.Status, int32(c.Status))
	p.EndReason = append(p.EndReason, string(c.End))
	p.DurationUs, p.FirstByteUs = append(p.DurationUs, c.Duration.Microseconds()), append(p.FirstByteUs, c.FirstByte.Microseconds())
	p.RequestBytes, p.AnswerBytes = append(p.RequestBytes, c.RequestBytes), append(p.AnswerBytes, c.AnswerBytes)
	p.ServiceTier = append(p.ServiceTier, clean(c.ServiceTier))
	p.ErrorCode, p.ErrorType, p.ErrorMessage = append(p.ErrorCode, clean(c.Error.Code)), append(p.ErrorType, clean(c.Error.Type)), append(p.ErrorMessage, clean(c.Error.Message))
	p.Decision = append(p.Decision, decisionJSON(d))
	cost, currency := "", ""
	if total, known := c.Cost(); known {
		cost, currency = total.Amount.String(), total.Currency
	}
	p.Cost, p.Currency = append(p.Cost, cost), append(p.Currency, currency)
}

func addAttempt(p *db.InsertAttemptsParams, c *logos.Call, a *logos.Attempt) {
	p.StartAt, p.CallID, p.Attempt = append(p.StartAt, c.Decision.StartTime()), append(p.CallID, string(c.ID)), append(p.Attempt, int32(a.Number))
	p.DeploymentID, p.ModelID = append(p.DeploymentID, int64(a.Target.Deployment)), append(p.ModelID, int64(a.Target.Model))
	p.ProviderID, p.CredentialID = append(p.ProviderID, int64(a.Target.Provider)), append(p.CredentialID, int64(a.Target.Credential))
	p.Cluster, p.StartedAt = append(p.Cluster, clean(a.Target.Cluster)), append(p.StartedAt, a.Start)
	p.DurationUs, p.Status = append(p.DurationUs, a.Duration.Microseconds()), append(p.Status, int32(a.Status))
	p.EndReason = append(p.EndReason, string(a.End))
	p.ProviderRequestID, p.Detail = append(p.ProviderRequestID, clean(a.ProviderRequestID)), append(p.Detail, clean(a.Detail))
	cost, currency, version := "", "", int64(0)
	if charge := a.Charge; charge != nil {
		currency, version = charge.Currency, charge.Version()
		if charge.Known() {
			cost = charge.Total.String()
		}
	}
	p.Cost, p.Currency, p.PriceVersion = append(p.Cost, cost), append(p.Currency, currency), append(p.PriceVersion, version)
}

// lines returns what was used, with what it costs where that is known.
func lines(a *logos.Attempt) []logos.ChargeLine {
	if a.Charge != nil {
		return a.Charge.Lines
	}
	out := make([]logos.ChargeLine, len(a.Meters))
	for i, r := range a.Meters {
		out[i].MeterReading = r
	}
	return out
}

func addMeter(p *db.InsertMetersParams, c *logos.Call, a *logos.Attempt, r logos.ChargeLine) {
	p.StartAt, p.CallID, p.Attempt = append(p.StartAt, c.Decision.StartTime()), append(p.CallID, string(c.ID)), append(p.Attempt, int32(a.Number))
	p.Meter, p.Quantity, p.Estimated = append(p.Meter, string(r.Meter)), append(p.Quantity, r.Quantity), append(p.Estimated, r.Estimated)
	cost, version := "", int64(0)
	if r.Price != nil {
		cost, version = r.Cost.String(), r.Price.Version
	}
	p.Cost, p.PriceVersion = append(p.Cost, cost), append(p.PriceVersion, version)
}

// clean keeps out what Postgres can't store as text; one hostile value must not hold up a whole batch.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// decisionJSON encodes a decision anew, since what was logged may be JSON to Go and none to Postgres.
func decisionJSON(d *logos.Decision) []byte {
	encoded, err := json.Marshal(d)
	if err != nil {
		panic(err) // a Decision holds nothing that has no JSON
	}
	return bytes.ReplaceAll(encoded, []byte(`\u0000`), []byte(`\ufffd`))
}
