package api

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// callServer shows the records of calls.
type callServer struct {
	adminv1.UnimplementedCallServiceServer
	*Service
}

func (s *callServer) GetCall(ctx context.Context, r *adminv1.GetCallRequest) (*adminv1.Call, error) {
	c, err := s.store.Call(ctx, callerOf(ctx).scope, logos.CallID(r.GetId()))
	if err != nil {
		return nil, err
	}
	names, err := s.store.DecisionNames(ctx, &c.Decision)
	if err != nil {
		return nil, err
	}
	m := callMessage(c)
	m.Decision = decisionMessage(&c.Decision, names)
	return m, nil
}

func (s *callServer) ListCalls(ctx context.Context, r *adminv1.ListCallsRequest) (*adminv1.ListCallsResponse, error) {
	items, next, err := list[*adminv1.Call](ctx, s.Service, store.Calls, r)
	return &adminv1.ListCallsResponse{Calls: items, NextPageToken: next}, err
}

func callMessage(c *logos.Call) *adminv1.Call {
	d := &c.Decision
	m := &adminv1.Call{
		Id: string(c.ID), Gateway: c.Gateway, Start: timestamppb.New(d.StartTime()), EndReason: string(c.End), Status: int32(c.Status),
		Method: c.Method, Api: string(d.API), Model: d.Model, Stream: d.Stream, Duration: durationpb.New(c.Duration),
		RequestBytes: c.RequestBytes, AnswerBytes: c.AnswerBytes, ProjectId: int64(d.Project), ApiKeyId: int64(d.APIKey),
		ProfileId: int64(d.Profile), TeamId: int64(d.Team), EndUser: d.EndUser, Session: d.Session, ServiceTier: c.ServiceTier,
		Cost: costText(c.Cost()), Revision: d.Revision,
	}
	if c.FirstByte > 0 {
		m.FirstByte = durationpb.New(c.FirstByte)
	}
	if c.Error != (logos.CallError{}) {
		m.Error = &adminv1.CallError{Code: c.Error.Code, Type: c.Error.Type, Message: c.Error.Message}
	}
	for _, a := range c.Attempts {
		m.Attempts = append(m.Attempts, attemptMessage(&a))
	}
	for _, x := range d.Candidates {
		m.Candidates = append(m.Candidates, &adminv1.Candidate{DeploymentId: int64(x.Deployment), Excluded: x.Excluded})
	}
	return m
}

// costText writes what something costs.
func costText(total logos.Money, known bool) string {
	if !known {
		return "unknown"
	}
	return strings.TrimSpace(total.Amount.String() + " " + total.Currency)
}

func attemptMessage(a *logos.Attempt) *adminv1.Attempt {
	m := &adminv1.Attempt{
		Number: int32(a.Number), DeploymentId: int64(a.Target.Deployment), ModelId: int64(a.Target.Model),
		ProviderId: int64(a.Target.Provider), CredentialId: int64(a.Target.Credential),
		Start: timestamppb.New(a.Start.Truncate(time.Microsecond)), Duration: durationpb.New(a.Duration), Status: int32(a.Status),
		EndReason: string(a.End), ProviderRequestId: a.ProviderRequestID, Detail: a.Detail, Cost: "unknown",
	}
	if c := a.Charge; c != nil {
		m.Cost = costText(logos.Money{Amount: c.Total, Currency: c.Currency}, c.Known())
	}
	for i, r := range a.Meters {
		meter := &adminv1.Meter{Meter: string(r.Meter), Quantity: r.Quantity, Estimated: r.Estimated, Cost: "unknown"}
		if a.Charge != nil && a.Charge.Lines[i].Price != nil {
			meter.Cost, meter.PriceVersion = a.Charge.Lines[i].Cost.String(), a.Charge.Lines[i].Price.Version
		}
		m.Meters = append(m.Meters, meter)
	}
	return m
}
