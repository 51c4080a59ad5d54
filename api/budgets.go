package api

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/ls1intum/edutelligence/logos"
	"github.com/ls1intum/edutelligence/logos/api/adminv1"
	"github.com/ls1intum/edutelligence/logos/sql"
)

var budgets = resource[*adminv1.Budget]{
	kind: store.Budgets,
	columns: func(ctx context.Context, c *change, m, before *adminv1.Budget) (store.Columns, error) {
		if err := named("name", m.GetName()); err != nil {
			return nil, err
		}
		b, err := budgetOf(m)
		if err != nil {
			return nil, err
		}
		if err := staysWhatItCounts(m, before); err != nil {
			return nil, err
		}
		columns := store.Columns{
			"name": m.GetName(), "each": string(b.Each), "unit": string(b.Unit), "currency": b.Currency, "amount": b.Limit.String(), `"window"`: string(b.Window),
			"time_zone": zoneName(m), "hard": b.Hard, "clamp_max_tokens": b.ClampMaxTokens, "thresholds": thresholds(m), "webhook_url": b.Webhook,
		}
		if err := c.budgetTeam(ctx, m, before, columns); err != nil {
			return nil, err
		}
		return columns, inside("selector", c.selects(ctx, m.GetSelector(), before.GetSelector(), columns))
	},
	settle: func(_ context.Context, _ *change, before, after *adminv1.Budget) error {
		for _, m := range []*adminv1.Budget{before, after} {
			b, err := budgetOf(m)
			if err != nil {
				return err
			}
			m.Amount, m.Window, m.TimeZone = b.Limit.String(), string(b.Window), zoneName(m)
			if m.Selector == nil {
				m.Selector = &adminv1.BudgetSelector{}
			}
		}
		return nil
	},
}

// budgetOf reads what a message says but for which calls it counts.
func budgetOf(m *adminv1.Budget) (*logos.Budget, error) {
	amount, err := decimal.NewFromString(m.GetAmount())
	if err != nil {
		return nil, invalid("amount", "must be a decimal number, like 12.50")
	}
	b := &logos.Budget{
		Each: logos.BudgetEach(m.GetEach()), Unit: logos.BudgetUnit(m.GetUnit()), Currency: m.GetCurrency(), Limit: amount, Window: logos.BudgetWindow(m.GetWindow()),
		Hard: !m.GetSoft(), ClampMaxTokens: m.GetClampMaxTokens(), Webhook: m.GetWebhookUrl(),
	}
	if b.Window == "" {
		b.Window = logos.WindowTotal
	}
	for _, p := range m.GetThresholds() {
		b.Thresholds = append(b.Thresholds, int(p))
	}
	if e, wrong := errors.AsType[*logos.Error](logos.CheckBudget(b)); wrong {
		field := strings.TrimPrefix(e.Code, "invalid_")
		if field == "limit" {
			field = "amount"
		}
		return nil, &fieldError{field, e}
	}
	if _, err := time.LoadLocation(zoneName(m)); err != nil || zoneName(m) == "Local" {
		return nil, invalid("time_zone", "must be a name of the IANA time zone database, like Europe/Berlin")
	}
	return b, checkWebhook(b.Webhook)
}

func zoneName(m *adminv1.Budget) string {
	if m.GetTimeZone() == "" {
		return "UTC"
	}
	return m.GetTimeZone()
}

// thresholds is never null.
func thresholds(m *adminv1.Budget) []int32 {
	if m.GetThresholds() == nil {
		return []int32{}
	}
	return m.GetThresholds()
}

func checkWebhook(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return invalid("webhook_url", "must be a URL like https://example.org/hook, without user and fragment")
	}
	return nil
}

// staysWhatItCounts refuses to turn what was counted into something else.
func staysWhatItCounts(m, before *adminv1.Budget) error {
	switch {
	case before == nil:
	case m.GetUnit() != before.GetUnit():
		return invalid("unit", "it stays what it was when the budget was made: make another one")
	case m.GetCurrency() != before.GetCurrency():
		return invalid("currency", "it stays what it was when the budget was made: make another one")
	}
	return nil
}

// budgetTeam finds the team whose a budget is. Who belongs to a team makes budgets of that team alone.
func (c *change) budgetTeam(ctx context.Context, m, before *adminv1.Budget, columns store.Columns) error {
	var id int64
	var err error
	if before == nil {
		id, err = c.ownTeam(ctx, m.GetTeamId(), m.GetTeam())
	} else {
		id, err = c.find(ctx, reference{kind: store.Teams, field: "team", id: m.GetTeamId(), name: m.GetTeam(), kept: before.GetTeamId()})
	}
	if err != nil {
		return err
	}
	if err := same("team", before != nil, before.GetTeamId(), id); err != nil {
		return err
	}
	if id != 0 && len(m.GetSelector().GetTeams()) > 0 {
		return invalid("selector.teams", "a budget of a team counts that team's calls: leave them out")
	}
	columns["team_id"] = orNull(id)
	return nil
}

// A selection finds what a selector names.
type selection struct {
	*change
	columns store.Columns
	err     error
}

// selects puts into columns which calls a budget counts. A list that stays as it was is left alone, since it may name
// what its caller may not see.
func (c *change) selects(ctx context.Context, s, before *adminv1.BudgetSelector, columns store.Columns) error {
	x := &selection{change: c, columns: columns}
	x.list(ctx, "team_ids", store.Teams, "teams", s.GetTeams(), before.GetTeams())
	x.list(ctx, "project_ids", store.Projects, "projects", s.GetProjects(), before.GetProjects())
	x.list(ctx, "model_ids", store.Models, "models", s.GetModels(), before.GetModels())
	x.list(ctx, "provider_ids", store.Providers, "providers", s.GetProviders(), before.GetProviders())
	var keys, keysBefore, profiles, profilesBefore [][2]string
	for _, k := range s.GetApiKeys() {
		keys = append(keys, [2]string{k.GetProject(), k.GetApiKey()})
	}
	for _, k := range before.GetApiKeys() {
		keysBefore = append(keysBefore, [2]string{k.GetProject(), k.GetApiKey()})
	}
	for _, p := range s.GetAccessProfiles() {
		profiles = append(profiles, [2]string{p.GetProject(), p.GetAccessProfile()})
	}
	for _, p := range before.GetAccessProfiles() {
		profilesBefore = append(profilesBefore, [2]string{p.GetProject(), p.GetAccessProfile()})
	}
	x.owned(ctx, "api_key_ids", store.APIKeys, "api_keys", "api_key", keys, keysBefore)
	x.owned(ctx, "profile_ids", store.AccessProfiles, "access_profiles", "access_profile", profiles, profilesBefore)
	columns["end_users"] = textArray(s.GetEndUsers())
	columns["call_labels"] = s.GetLabels()
	if s.GetLabels() == nil {
		columns["call_labels"] = map[string]string{}
	}
	return x.err
}

// list finds what is named by its own name.
func (x *selection) list(ctx context.Context, column string, k *store.Kind, field string, names, before []string) {
	if x.err != nil || len(names) > 0 && slices.Equal(names, before) {
		return
	}
	ids := make([]int64, 0, len(names))
	for i, name := range names {
		id, err := x.find(ctx, reference{kind: k, field: item(field, i), name: name})
		if err != nil {
			x.err = err
			return
		}
		ids = append(ids, id)
	}
	x.columns[column] = ids
}

// owned finds what is named within a project.
func (x *selection) owned(ctx context.Context, column string, k *store.Kind, field, called string, names, before [][2]string) {
	if x.err != nil || len(names) > 0 && slices.Equal(names, before) {
		return
	}
	ids := make([]int64, 0, len(names))
	for i, name := range names {
		project, err := x.find(ctx, reference{kind: store.Projects, field: item(field, i) + ".project", name: name[0]})
		if err != nil {
			x.err = err
			return
		}
		id, err := x.find(ctx, reference{kind: k, field: item(field, i) + "." + called, name: name[1], within: store.Columns{"project_id": project}})
		if err != nil {
			x.err = err
			return
		}
		if slices.Contains(ids, id) {
			x.err = invalid(item(field, i), "it is there twice")
			return
		}
		ids = append(ids, id)
	}
	x.columns[column] = ids
}

type budgetServer struct {
	adminv1.UnimplementedBudgetServiceServer
	*Service
}

func (s *budgetServer) GetBudget(ctx context.Context, r *adminv1.GetBudgetRequest) (*adminv1.Budget, error) {
	b, err := get[*adminv1.Budget](ctx, s.Service, store.BudgetsSeen, r.GetId())
	hideWebhook(ctx, b)
	return b, err
}

// hideWebhook keeps a budget's webhook from those who may not change the budget: its URL may be a secret.
func hideWebhook(ctx context.Context, b *adminv1.Budget) {
	p := callerOf(ctx).Principal
	if owns := p.Role == logos.RoleTeamOwner && p.Team != 0 && logos.TeamID(b.GetTeamId()) == p.Team; b != nil && !owns && p.Role != logos.RoleRoot && p.Role != logos.RoleAdmin {
		b.WebhookUrl = ""
	}
}

func (s *budgetServer) ListBudgets(ctx context.Context, r *adminv1.ListBudgetsRequest) (*adminv1.ListBudgetsResponse, error) {
	items, next, err := list[*adminv1.Budget](ctx, s.Service, store.BudgetsSeen, r)
	for _, b := range items {
		hideWebhook(ctx, b)
	}
	return &adminv1.ListBudgetsResponse{Budgets: items, NextPageToken: next}, err
}

func (s *budgetServer) CreateBudget(ctx context.Context, r *adminv1.CreateBudgetRequest) (*adminv1.Budget, error) {
	return budgets.create(ctx, s.Service, r.GetBudget(), r.GetRequestId())
}

func (s *budgetServer) UpdateBudget(ctx context.Context, r *adminv1.UpdateBudgetRequest) (*adminv1.Budget, error) {
	return budgets.update(ctx, s.Service, r.GetBudget(), r.GetUpdateMask())
}

func (s *budgetServer) DeleteBudget(ctx context.Context, r *adminv1.DeleteBudgetRequest) (*adminv1.Budget, error) {
	return budgets.remove(ctx, s.Service, r.GetId(), r.GetEtag())
}

// countersOf is a list of the counters of one budget.
type countersOf struct {
	*adminv1.ListBudgetCountersRequest
}

func (r countersOf) GetFilter() string { return "budget_id = " + strconv.FormatInt(r.GetId(), 10) }

func (s *budgetServer) ListBudgetCounters(ctx context.Context, r *adminv1.ListBudgetCountersRequest) (*adminv1.ListBudgetCountersResponse, error) {
	if _, err := s.store.Get(ctx, store.BudgetsSeen, callerOf(ctx).scope, r.GetId()); err != nil {
		return nil, err
	}
	items, next, err := list[*adminv1.BudgetCounter](ctx, s.Service, store.BudgetCounters, countersOf{r})
	return &adminv1.ListBudgetCountersResponse{Counters: items, NextPageToken: next}, err
}
