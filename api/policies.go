package api

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/policy"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var policies = resource[*adminv1.Policy]{
	kind: store.Policies,
	columns: func(ctx context.Context, c *change, m, before *adminv1.Policy) (store.Columns, error) {
		if err := named("name", m.GetName()); err != nil {
			return nil, err
		}
		if before != nil {
			if err := c.ReadablePolicy(ctx, logos.PolicyID(before.GetId())); err != nil {
				return nil, err
			}
		}
		p, err := c.policy(ctx, m, before)
		if err != nil {
			return nil, err
		}
		if p.Level, p.Owner, err = c.policyOwner(ctx, m, before); err != nil {
			return nil, err
		}
		if err := c.roomForPolicy(ctx, p, before); err != nil {
			return nil, err
		}
		return policyColumns(p)
	},
	settle: func(_ context.Context, _ *change, before, after *adminv1.Policy) error {
		settlePolicy(before)
		settlePolicy(after)
		return nil
	},
}

// ownerColumns hold the owner of a policy, by level.
var ownerColumns = map[logos.PolicyLevel]string{
	logos.LevelTeam: "team_id", logos.LevelProject: "project_id", logos.LevelProfile: "profile_id", logos.LevelAPIKey: "api_key_id",
}

// policyColumns checks a policy and returns its columns.
func policyColumns(p *logos.Policy) (store.Columns, error) {
	found, err := policy.Check(p)
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		return nil, problems(found)
	}
	spec, err := store.PolicySpec(p)
	if err != nil {
		return nil, err
	}
	columns := store.Columns{"name": p.Name, "level": p.Level.String(), "on_request": p.OnRequest, "spec": spec}
	if column, ok := ownerColumns[p.Level]; ok {
		columns[column] = p.Owner
	}
	return columns, nil
}

// maxStanding is how many policies of one owner may apply to calls that do not name them: each takes its time of every
// such call, and a line of its record.
const maxStanding = 100

func (c *change) roomForPolicy(ctx context.Context, p *logos.Policy, before *adminv1.Policy) error {
	if p.OnRequest || before != nil && !before.GetOnRequest() {
		return nil
	}
	n, err := c.StandingPolicies(ctx, p.Level, p.Owner)
	if err == nil && n >= maxStanding {
		err = logos.Errorf(logos.Conflict, "too_many_policies", "there are %d policies of this %s already, as many as may apply to calls that do not name them: put several into one, as its rules", n, strings.ReplaceAll(p.Level.String(), "_", " "))
	}
	return err
}

// problems says what is wrong with which fields of a policy, and where in expressions.
func problems(found []policy.Problem) error {
	out := make(fieldErrors, len(found))
	for i, p := range found {
		message := p.Message
		if p.Line > 0 {
			message = fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.Message)
		}
		out[i] = &fieldError{p.Field, logos.Errorf(logos.Invalid, "invalid_policy", "%s", message)}
	}
	return out
}

// ownerFields are the fields that name a policy's owner, by level.
var ownerFields = map[logos.PolicyLevel][]string{
	logos.LevelInstallation: nil, logos.LevelTeam: {"team"}, logos.LevelProject: {"project"},
	logos.LevelProfile: {"project", "access_profile"}, logos.LevelAPIKey: {"project", "api_key"},
}

// policyOwner returns whose a policy is. A policy that is there stays its owner's.
func (c *change) policyOwner(ctx context.Context, m, before *adminv1.Policy) (level logos.PolicyLevel, owner int64, err error) {
	if level, err = logos.ParsePolicyLevel(m.GetLevel()); err != nil {
		return level, 0, at("level", err)
	}
	if before != nil && m.GetLevel() != before.GetLevel() {
		return level, 0, invalid("level", "it stays what it was when the policy was made: make another one")
	}
	if err := foreignOwner(level, m); err != nil {
		return level, 0, err
	}
	if level != logos.LevelProject && level != logos.LevelAPIKey && c.scope != (store.Scope{}) {
		return level, 0, &fieldError{"level", errNotTheirPolicy}
	}
	if level == logos.LevelInstallation {
		return level, 0, nil
	}
	owner, field, kept, err := c.ownerOf(ctx, level, m, before)
	if err == nil {
		err = same(field, before != nil, kept, owner)
	}
	return level, owner, err
}

// errNotTheirPolicy refuses team owners what binds them: they may change no team and no access profile either.
var errNotTheirPolicy = logos.Errorf(logos.Denied, "not_allowed", "policies of the installation, of teams and of access profiles are administrators': ask one, or choose the level project or api_key")

// foreignOwner refuses to name an owner that a policy of this level has not.
func foreignOwner(level logos.PolicyLevel, m *adminv1.Policy) error {
	for _, x := range []struct {
		field, name string
		id          int64
	}{
		{"team", m.GetTeam(), m.GetTeamId()}, {"project", m.GetProject(), m.GetProjectId()},
		{"access_profile", m.GetAccessProfile(), m.GetAccessProfileId()}, {"api_key", m.GetApiKey(), m.GetApiKeyId()},
	} {
		field := x.field
		if x.id != 0 {
			field += "_id"
		}
		if (x.id != 0 || x.name != "") && !slices.Contains(ownerFields[level], x.field) {
			return invalid(field, "a policy of level %s has none: leave it out, or choose another level", level)
		}
	}
	return nil
}

// ownerOf finds the owner that a policy names, and the one that it had.
func (c *change) ownerOf(ctx context.Context, level logos.PolicyLevel, m, before *adminv1.Policy) (owner int64, field string, kept int64, err error) {
	if level == logos.LevelTeam {
		owner, err = c.need(ctx, reference{kind: store.Teams, field: "team", id: m.GetTeamId(), name: m.GetTeam()})
		return owner, "team", before.GetTeamId(), err
	}
	project, err := c.find(ctx, reference{kind: store.Projects, field: "project", id: m.GetProjectId(), name: m.GetProject()})
	if err != nil {
		return 0, "", 0, err
	}
	within := store.Columns{"project_id": project}
	r := reference{kind: store.AccessProfiles, field: "access_profile", id: m.GetAccessProfileId(), name: m.GetAccessProfile(), within: within}
	kept = before.GetAccessProfileId()
	switch {
	case level == logos.LevelProject && project == 0, project == 0 && m.GetAccessProfileId() == 0 && m.GetApiKeyId() == 0:
		return 0, "", 0, invalid("project", "must be given, by name, or by id as project_id")
	case level == logos.LevelProject:
		return project, "project", before.GetProjectId(), nil
	case level == logos.LevelAPIKey:
		r = reference{kind: store.APIKeys, field: "api_key", id: m.GetApiKeyId(), name: m.GetApiKey(), within: within}
		kept = before.GetApiKeyId()
	}
	if project == 0 {
		r.within = nil
	}
	owner, err = c.need(ctx, r)
	return owner, r.field, kept, err
}

type policyServer struct {
	adminv1.UnimplementedPolicyServiceServer
	*Service
}

func (s *policyServer) GetPolicy(ctx context.Context, r *adminv1.GetPolicyRequest) (*adminv1.Policy, error) {
	return get[*adminv1.Policy](ctx, s.Service, store.PoliciesSeen, r.GetId())
}

func (s *policyServer) ListPolicies(ctx context.Context, r *adminv1.ListPoliciesRequest) (*adminv1.ListPoliciesResponse, error) {
	items, next, err := list[*adminv1.Policy](ctx, s.Service, store.PoliciesSeen, r)
	return &adminv1.ListPoliciesResponse{Policies: items, NextPageToken: next}, err
}

func (s *policyServer) CreatePolicy(ctx context.Context, r *adminv1.CreatePolicyRequest) (*adminv1.Policy, error) {
	return policies.create(ctx, s.Service, r.GetPolicy(), r.GetRequestId())
}

func (s *policyServer) UpdatePolicy(ctx context.Context, r *adminv1.UpdatePolicyRequest) (*adminv1.Policy, error) {
	return policies.update(ctx, s.Service, r.GetPolicy(), r.GetUpdateMask())
}

func (s *policyServer) DeletePolicy(ctx context.Context, r *adminv1.DeletePolicyRequest) (*adminv1.Policy, error) {
	return policies.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}

// versionsOf is a list of the versions of one policy.
type versionsOf struct {
	*adminv1.ListPolicyVersionsRequest
}

func (v versionsOf) GetFilter() string    { return "id = " + strconv.FormatInt(v.GetId(), 10) }
func (v versionsOf) GetShowDeleted() bool { return true }

func (s *policyServer) ListPolicyVersions(ctx context.Context, r *adminv1.ListPolicyVersionsRequest) (*adminv1.ListPolicyVersionsResponse, error) {
	if _, err := s.store.Get(ctx, store.PoliciesSeen, callerOf(ctx).scope, r.GetId()); err != nil {
		return nil, err
	}
	items, next, err := list[*adminv1.Policy](ctx, s.Service, store.PolicyVersions, versionsOf{r})
	answer := &adminv1.ListPolicyVersionsResponse{NextPageToken: next}
	for _, p := range items {
		revision, _ := strconv.ParseInt(p.GetEtag(), 10, 64) // as the store writes it
		answer.Versions = append(answer.Versions, &adminv1.PolicyVersion{Revision: revision, Time: p.GetUpdateTime(), Policy: p})
	}
	return answer, err
}

func (s *policyServer) ListPolicyVariables(context.Context, *adminv1.ListPolicyVariablesRequest) (*adminv1.ListPolicyVariablesResponse, error) {
	answer := &adminv1.ListPolicyVariablesResponse{}
	for _, v := range policy.Variables() {
		answer.Variables = append(answer.Variables, &adminv1.PolicyVariable{Name: v.Name, Type: v.Type, Description: v.Doc})
	}
	return answer, nil
}

// ImportThresholds makes policies of the original system's, all or none.
func (s *policyServer) ImportThresholds(ctx context.Context, r *adminv1.ImportThresholdsRequest) (*adminv1.ImportThresholdsResponse, error) {
	answer := &adminv1.ImportThresholdsResponse{}
	err := s.do(ctx, func(ctx context.Context, c *change) error {
		project, err := c.need(ctx, reference{kind: store.Projects, field: "project", id: r.GetProjectId(), name: r.GetProject()})
		if err != nil {
			return err
		}
		for i, m := range r.GetPolicies() {
			made, err := c.importThresholds(ctx, logos.ProjectID(project), m)
			if err != nil {
				return within(item("policies", i), err)
			}
			answer.Policies = append(answer.Policies, made)
		}
		return nil
	})
	return answer, err
}

func (c *change) importThresholds(ctx context.Context, project logos.ProjectID, m *adminv1.OriginalPolicy) (*adminv1.Policy, error) {
	if err := named("name", m.GetName()); err != nil {
		return nil, err
	}
	p, err := policy.Thresholds{
		Name: m.GetName(), Privacy: m.GetThresholdPrivacy(), Latency: whole(m.ThresholdLatency), Accuracy: whole(m.ThresholdAccuracy),
		Cost: whole(m.ThresholdCost), Quality: whole(m.ThresholdQuality), Priority: int(m.GetPriority()), Topic: m.GetTopic(),
	}.Import(project)
	if err != nil {
		return nil, at("threshold_privacy", err)
	}
	columns, err := policyColumns(p)
	if err != nil {
		return nil, err
	}
	columns["labels"] = labels(&adminv1.Policy{Labels: p.Labels})
	id, err := c.Insert(ctx, store.Policies, columns)
	if err != nil {
		return nil, err
	}
	if err := c.Created(ctx, store.Policies, id); err != nil {
		return nil, err
	}
	doc, err := c.Get(ctx, store.Policies, store.Scope{}, id)
	if err != nil {
		return nil, err
	}
	return decode[*adminv1.Policy](doc)
}

func whole(n *int32) *int {
	if n == nil {
		return nil
	}
	out := int(*n)
	return &out
}
