package api

import (
	"context"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

type projectServer struct {
	adminv1.UnimplementedProjectServiceServer
	*Service
}

var projects = resource[*adminv1.Project]{
	kind: store.Projects,
	columns: func(ctx context.Context, c *change, m, _ *adminv1.Project) (store.Columns, error) {
		if err := named("name", m.GetName()); err != nil {
			return nil, err
		}
		team, err := c.ownTeam(ctx, m.GetTeamId(), m.GetTeam())
		return store.Columns{"name": m.GetName(), "team_id": orNull(team)}, err
	},
}

// errNoTeam refuses to make what would be of the whole installation to a team owner whose key is of no team.
var errNoTeam = logos.Errorf(logos.Denied, "not_allowed", "your API key is of no team, and what a team owner makes is of their team: use a key of a project of your team")

// ownTeam returns the team that a resource shall be of. Who is confined to a team can choose no other.
func (c *change) ownTeam(ctx context.Context, id int64, name string) (int64, error) {
	if c.scope.Nothing {
		return 0, errNoTeam
	}
	team, err := c.find(ctx, reference{kind: store.Teams, field: "team", id: id, name: name})
	if err == nil && team == 0 && c.scope.Team != 0 {
		return c.scope.Team, nil
	}
	return team, err
}

func (s *projectServer) GetProject(ctx context.Context, r *adminv1.GetProjectRequest) (*adminv1.Project, error) {
	return get[*adminv1.Project](ctx, s.Service, store.Projects, r.GetId())
}

func (s *projectServer) ListProjects(ctx context.Context, r *adminv1.ListProjectsRequest) (*adminv1.ListProjectsResponse, error) {
	items, next, err := list[*adminv1.Project](ctx, s.Service, store.Projects, r)
	return &adminv1.ListProjectsResponse{Projects: items, NextPageToken: next}, err
}

func (s *projectServer) CreateProject(ctx context.Context, r *adminv1.CreateProjectRequest) (*adminv1.Project, error) {
	return projects.create(ctx, s.Service, r.GetProject(), r.GetRequestId())
}

func (s *projectServer) UpdateProject(ctx context.Context, r *adminv1.UpdateProjectRequest) (*adminv1.Project, error) {
	return projects.update(ctx, s.Service, r.GetProject(), r.GetUpdateMask())
}

func (s *projectServer) DeleteProject(ctx context.Context, r *adminv1.DeleteProjectRequest) (*adminv1.Project, error) {
	return projects.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}
