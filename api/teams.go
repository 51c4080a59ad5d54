package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

const (
	defaultKeyLimit = 5
	defaultKeyAge   = 365 * 24 * time.Hour
)

type teamServer struct {
	adminv1.UnimplementedTeamServiceServer
	*Service
}

var teams = resource[*adminv1.Team]{
	kind: store.Teams,
	columns: func(_ context.Context, _ *change, m, _ *adminv1.Team) (store.Columns, error) {
		settleTeam(m)
		if err := wholeSeconds("member_key_max_age", m.GetMemberKeyMaxAge()); err != nil {
			return nil, err
		}
		return store.Columns{
			"name": m.GetName(), "member_key_limit": m.GetMemberKeyLimit(), "member_key_max_age_s": m.GetMemberKeyMaxAge().GetSeconds(),
		}, named("name", m.GetName())
	},
	settle: func(_ context.Context, _ *change, _, after *adminv1.Team) error {
		settleTeam(after)
		return nil
	},
}

func settleTeam(m *adminv1.Team) {
	if m.MemberKeyLimit == nil {
		m.MemberKeyLimit = proto.Int32(defaultKeyLimit)
	}
	if m.MemberKeyMaxAge == nil {
		m.MemberKeyMaxAge = durationpb.New(defaultKeyAge)
	}
}

// wholeSeconds refuses a duration that would be stored as a shorter one.
func wholeSeconds(field string, d *durationpb.Duration) error {
	if d.GetNanos() != 0 {
		return invalid(field, "must be whole seconds, like 86400s")
	}
	return nil
}

func (s *teamServer) GetTeam(ctx context.Context, r *adminv1.GetTeamRequest) (*adminv1.Team, error) {
	return get[*adminv1.Team](ctx, s.Service, store.Teams, r.GetId())
}

func (s *teamServer) ListTeams(ctx context.Context, r *adminv1.ListTeamsRequest) (*adminv1.ListTeamsResponse, error) {
	items, next, err := list[*adminv1.Team](ctx, s.Service, store.Teams, r)
	return &adminv1.ListTeamsResponse{Teams: items, NextPageToken: next}, err
}

func (s *teamServer) CreateTeam(ctx context.Context, r *adminv1.CreateTeamRequest) (*adminv1.Team, error) {
	return teams.create(ctx, s.Service, r.GetTeam(), r.GetRequestId())
}

func (s *teamServer) UpdateTeam(ctx context.Context, r *adminv1.UpdateTeamRequest) (*adminv1.Team, error) {
	return teams.update(ctx, s.Service, r.GetTeam(), r.GetUpdateMask())
}

func (s *teamServer) DeleteTeam(ctx context.Context, r *adminv1.DeleteTeamRequest) (*adminv1.Team, error) {
	return teams.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
