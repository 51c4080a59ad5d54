package api

import (
	"context"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

// auditServer shows audit events.
type auditServer struct {
	adminv1.UnimplementedAuditEventServiceServer
	*Service
}

func (s *auditServer) GetAuditEvent(ctx context.Context, r *adminv1.GetAuditEventRequest) (*adminv1.AuditEvent, error) {
	doc, err := s.store.Get(ctx, store.AuditEvents, callerOf(ctx).scope, r.GetId())
	if err != nil {
		return nil, err
	}
	return decode[*adminv1.AuditEvent](doc)
}

func (s *auditServer) ListAuditEvents(ctx context.Context, r *adminv1.ListAuditEventsRequest) (*adminv1.ListAuditEventsResponse, error) {
	items, next, err := list[*adminv1.AuditEvent](ctx, s.Service, store.AuditEvents, r)
	return &adminv1.ListAuditEventsResponse{AuditEvents: items, NextPageToken: next}, err
}

// sessionServer tells callers who they are.
type sessionServer struct {
	adminv1.UnimplementedSessionServiceServer
	*Service
}

func (s *sessionServer) WhoAmI(ctx context.Context, _ *adminv1.WhoAmIRequest) (*adminv1.Principal, error) {
	c := callerOf(ctx)
	names, err := s.store.Names(ctx, &c.Principal)
	return &adminv1.Principal{
		ApiKeyId: int64(c.Key), Role: string(c.Role), ProjectId: int64(c.Project), Project: names.Project, TeamId: int64(c.Team), Team: names.Team,
		MemberId: int64(c.Member), Email: names.Email, Methods: methods(c.Role),
	}, err
}
