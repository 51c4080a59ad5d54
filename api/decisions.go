package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// An ExplainedCall is a call that is to be decided and not made.
type ExplainedCall struct {
	Key                            *logos.APIKey
	Path                           string
	Profile, Policy, User, Session string // as the headers x-logos-… have them; may be empty
	Body                           []byte
	Seed                           uint64 // 0: another one each time
}

// An Explainer decides calls as they would be decided now, and sends nothing. Of a call that would be refused it
// returns the decision, and what the caller would be told as the error.
type Explainer interface {
	Explain(ctx context.Context, c ExplainedCall) (*logos.Decision, error)
}

// decisionServer shows what would be decided.
type decisionServer struct {
	adminv1.UnimplementedDecisionServiceServer
	*Service
	explainer Explainer
}

const defaultExplainedPath = "/v1/chat/completions"

func (s *decisionServer) ExplainDecision(ctx context.Context, r *adminv1.ExplainDecisionRequest) (*adminv1.Decision, error) {
	if _, err := s.store.Get(ctx, store.APIKeys, callerOf(ctx).scope, r.GetApiKeyId()); err != nil {
		return nil, err
	}
	key, err := s.store.APIKey(ctx, logos.APIKeyID(r.GetApiKeyId()))
	if err != nil {
		return nil, err
	}
	if key.Revoked || !key.ExpiresAt.IsZero() && !key.ExpiresAt.After(time.Now()) {
		return nil, logos.Errorf(logos.Conflict, "unusable_api_key", "API key %d is revoked or has expired, so that it can make no calls: give another one", key.ID)
	}
	body, err := bodyOf(r)
	if err != nil {
		return nil, err
	}
	d, err := s.explainer.Explain(ctx, ExplainedCall{
		Key: key, Path: cmp.Or(r.GetPath(), defaultExplainedPath), Profile: r.GetProfile(), Policy: r.GetPolicy(), User: r.GetUser(),
		Session: r.GetSession(), Body: body, Seed: r.GetSeed(),
	})
	refused, expected := errors.AsType[*logos.Error](err)
	if d == nil || err != nil && !expected {
		return nil, err
	}
	names, err := s.store.DecisionNames(ctx, d)
	if err != nil {
		return nil, err
	}
	m := decisionMessage(d, names)
	if refused != nil {
		m.RefusalMessage = refused.Message
	}
	return m, nil
}

// bodyOf writes the body as a caller would send it.
func bodyOf(r *adminv1.ExplainDecisionRequest) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r.GetBody().AsMap()); err != nil {
		return nil, invalid("body", "holds a number that JSON can't hold")
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func decisionMessage(d *logos.Decision, names *store.DecisionNames) *adminv1.Decision {
	m := &adminv1.Decision{
		Time: timestamppb.New(d.StartTime()), Revision: d.Revision, Api: string(d.API), Stream: d.Stream, Model: d.Model, TeamId: int64(d.Team),
		ProjectId: int64(d.Project), ApiKeyId: int64(d.APIKey), AccessProfileId: int64(d.Profile), EndUser: d.EndUser, Session: d.Session,
		RequestBytes: d.BodyBytes, MaxTokens: d.MaxTokens, ClampedTo: d.ClampedTo, Refusal: d.Refusal, MoreCandidates: int32(d.MoreCandidates),
	}
	for _, t := range d.Targets {
		m.Targets = append(m.Targets, &adminv1.DecisionTarget{
			DeploymentId: int64(t.Deployment), ModelId: int64(t.Model), ProviderId: int64(t.Provider), CredentialId: int64(t.Credential),
			Model: names.Models[t.Model], Provider: names.Providers[t.Provider],
		})
	}
	for i := range d.Candidates {
		m.Candidates = append(m.Candidates, candidateMessage(&d.Candidates[i], d.Facts, names))
	}
	for i := range d.Reservations {
		m.Reservations = append(m.Reservations, reservationMessage(&d.Reservations[i]))
	}
	if d.Facts != nil {
		m.Facts = factsMessage(d.Facts, names)
	}
	return m
}

func reservationMessage(r *logos.Reservation) *adminv1.DecisionReservation {
	m := &adminv1.DecisionReservation{
		BudgetId: int64(r.Budget), Key: r.Key, Unit: string(r.Unit), Currency: r.Currency, Amount: r.Unit.Quantity(r.Amount).String(), Hard: r.Hard,
	}
	if r.Start != 0 {
		m.WindowStart = timestamppb.New(time.Unix(r.Start, 0))
	}
	return m
}

func candidateMessage(c *logos.DecisionCandidate, facts *logos.DecisionFacts, names *store.DecisionNames) *adminv1.DecisionCandidate {
	is := names.Deployments[c.Deployment]
	m := &adminv1.DecisionCandidate{
		DeploymentId: int64(c.Deployment), Provider: is.Provider, Model: is.Model, Deployment: is.Name, Rank: int32(c.Rank), Excluded: c.Excluded,
		Reason: policy.Reason(*c, facts), PolicyId: int64(c.Policy), AccessProfileId: int64(c.Profile), What: c.What,
		ExpectedOutputTokens: c.Output, Load: float64(c.Load), Stale: c.Stale, TimeToFirstTokenP50: micros(c.FirstToken), TimeToFirstTokenP95: micros(c.SlowToken),
	}
	if c.Currency != "" {
		m.ExpectedCost, m.Currency = decimal.New(c.Cost, -costDigits).String(), c.Currency
	}
	if c.Limit != 0 || c.Have != 0 {
		m.Have, m.Limit = declared(c.Have), declared(c.Limit)
	}
	if c.Score != nil {
		m.Score = scoreMessage(c.Score)
	}
	return m
}

// costDigits is how many decimal places decisions have of costs.
const costDigits = 12

// declared leaves out what a decision holds for something that is not known.
func declared(v float64) *float64 {
	if v < 0 {
		return nil
	}
	return proto.Float64(v)
}

func micros(n int64) *durationpb.Duration {
	if n == 0 {
		return nil
	}
	return durationpb.New(time.Duration(n) * time.Microsecond)
}

func scoreMessage(s *logos.DecisionScore) *adminv1.DecisionScore {
	part := func(thousandths int16) float64 { return float64(thousandths) / 1000 }
	return &adminv1.DecisionScore{
		Total: float64(s.Total) / 1000, Cost: part(s.Cost), Latency: part(s.Latency), Quality: part(s.Quality), Load: part(s.Load),
		SessionBonus: part(s.Session), PrefixBonus: part(s.Prefix), Hysteresis: part(s.Held),
	}
}

func factsMessage(f *logos.DecisionFacts, names *store.DecisionNames) *adminv1.DecisionFacts {
	m := &adminv1.DecisionFacts{
		Seed: f.Seed, InputTokens: f.InputTokens, OutputTokens: f.OutputTokens, Tools: f.Tools, Images: f.Images, JsonSchema: f.JSONSchema,
		Language: f.Language, Code: f.Code, Keywords: f.Keywords, Tags: f.Tags, SessionDeploymentId: int64(f.SessionDeployment),
		PrefixDeploymentId: int64(f.PrefixDeployment), IncumbentDeploymentId: int64(f.Incumbent), ObjectivePolicyId: int64(f.Objective), First: f.First,
	}
	for _, p := range f.Policies {
		x := &adminv1.DecisionPolicy{
			Id: int64(p.ID), Name: names.Policies[p.ID], Revision: p.Revision, Level: p.Level.String(), AccessProfileId: int64(p.Profile), Skipped: p.Skipped,
		}
		for _, c := range p.Relaxed {
			x.Relaxed = append(x.Relaxed, string(c))
		}
		m.Policies = append(m.Policies, x)
	}
	return m
}
