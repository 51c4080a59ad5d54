package api

import (
	"context"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

type memberServer struct {
	adminv1.UnimplementedMemberServiceServer
	*Service
}

var members = resource[*adminv1.Member]{
	kind: store.Members,
	columns: func(ctx context.Context, c *change, m, _ *adminv1.Member) (store.Columns, error) {
		role := logos.Role(m.GetRole())
		if rank(role) > rank(c.Role) {
			return nil, &fieldError{"role", logos.Errorf(logos.Denied, "role_too_high", "nobody gives a role above their own, which is %q", c.Role)}
		}
		if m.GetName() != "" {
			if err := named("name", m.GetName()); err != nil {
				return nil, err
			}
		}
		if err := named("email", m.GetEmail()); err != nil {
			return nil, err
		}
		team, err := c.ownTeam(ctx, m.GetTeamId(), m.GetTeam())
		if err == nil && team == 0 && (role == logos.RoleTeamOwner || role == logos.RoleMember) {
			err = invalid("team", "a %s is of a team", role)
		}
		if err == nil && team != 0 && role == logos.RoleAdmin {
			err = invalid("team", "an admin is of the whole installation, of no team")
		}
		return store.Columns{"email": m.GetEmail(), "name": m.GetName(), "role": m.GetRole(), "team_id": orNull(team)}, err
	},
	mayChange: func(ctx context.Context, before *adminv1.Member) error {
		return notAbove(ctx, "it", before.GetRole())
	},
	settle: func(_ context.Context, _ *change, before, after *adminv1.Member) error {
		if strings.EqualFold(after.GetEmail(), before.GetEmail()) {
			after.Email = before.GetEmail()
		}
		return nil
	},
}

// notAbove refuses to change somebody whose role is above the caller's own.
func notAbove(ctx context.Context, who, role string) error {
	if c := callerOf(ctx); rank(logos.Role(role)) > rank(c.Role) {
		return logos.Errorf(logos.Denied, "role_too_high", "%s has the role %q, which is above your own, %q", who, role, c.Role)
	}
	return nil
}

func (s *memberServer) GetMember(ctx context.Context, r *adminv1.GetMemberRequest) (*adminv1.Member, error) {
	return get[*adminv1.Member](ctx, s.Service, store.Members, r.GetId())
}

func (s *memberServer) ListMembers(ctx context.Context, r *adminv1.ListMembersRequest) (*adminv1.ListMembersResponse, error) {
	items, next, err := list[*adminv1.Member](ctx, s.Service, store.Members, r)
	return &adminv1.ListMembersResponse{Members: items, NextPageToken: next}, err
}

func (s *memberServer) CreateMember(ctx context.Context, r *adminv1.CreateMemberRequest) (*adminv1.Member, error) {
	return members.create(ctx, s.Service, r.GetMember(), r.GetRequestId())
}

func (s *memberServer) UpdateMember(ctx context.Context, r *adminv1.UpdateMemberRequest) (*adminv1.Member, error) {
	return members.update(ctx, s.Service, r.GetMember(), r.GetUpdateMask())
}

func (s *memberServer) DeleteMember(ctx context.Context, r *adminv1.DeleteMemberRequest) (*adminv1.Member, error) {
	return members.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
