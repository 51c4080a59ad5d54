package store

import "fmt"

// selected shows the names of what a list of ids holds.
func selected(column, table string) string {
	return fmt.Sprintf("coalesce((select jsonb_agg(x.name order by u.n) from unnest(r.%s) with ordinality as u (id, n) join %s x on x.id = u.id), '[]')", column, table)
}

// selectedOf is selected for what has its name within a project.
func selectedOf(column, table, member string) string {
	return fmt.Sprintf("coalesce((select jsonb_agg(jsonb_build_object('project', p.name, '%s', x.name) order by u.n) from unnest(r.%s) with ordinality as u (id, n) join %s x on x.id = u.id join projects p on p.id = x.project_id), '[]')",
		member, column, table)
}

var budgetSelector = "jsonb_build_object('teams', " + selected("team_ids", "teams") + ", 'projects', " + selected("project_ids", "projects") +
	", 'api_keys', " + selectedOf("api_key_ids", "api_keys", "api_key") + ", 'access_profiles', " + selectedOf("profile_ids", "profiles", "access_profile") +
	", 'models', " + selected("model_ids", "models") + ", 'providers', " + selected("provider_ids", "providers") + ", 'end_users', to_jsonb(r.end_users), 'labels', r.call_labels)"

// Budgets are those that a caller may change; BudgetsSeen those that it may see.
var (
	Budgets     = budgetKind(reach{team: "r.team_id = @", project: "false", member: "false"})
	BudgetsSeen = budgetKind(budgetsOf)

	// BudgetCounters are the counters of budgets, the latest first, with what all gateways have spent of them.
	BudgetCounters = &Kind{
		Name: "budget_counter", bare: true, joins: "join budgets b on b.id = r.budget_id",
		table: `(select c.budget_id, c.window_start, c.window_end, c.each_key, least(coalesce(sum(s.settled), 0), 4000000000000000000)::bigint as settled,
			coalesce(sum(case when s.held_until > now() then s.reserved else 0 end), 0)::numeric as reserved,
			least(coalesce(sum(s.overrun), 0), 4000000000000000000)::bigint as overrun, coalesce(sum(s.overruns), 0)::bigint as overruns
			from budget_counters c left join budget_shares s on s.budget_id = c.budget_id and s.window_start = c.window_start and s.each_key = c.each_key
			group by c.budget_id, c.window_start, c.each_key)`,
		// Of budgets that count others' calls too, nobody sees what these have spent; members see colleagues together.
		within: reach{
			team:    fmt.Sprintf(countsOnly, "@"),
			project: "b.project_ids = array[@]::bigint[]",
			member:  fmt.Sprintf(countsOnly, memberTeam) + " and (b.each in ('', 'team', 'project') or r.each_key = 'member:' || (@)::bigint)",
		},
		order: []term{{"r.window_start", "timestamptz", true}, {"r.each_key", "text", false}, {"r.budget_id", "bigint", false}},
		fields: []field{
			{"budget_id", "r.budget_id", integer},
			{"key", "r.each_key", text},
			{"window_start", "nullif(r.window_start, 'epoch')", moment},
			{"reset_time", "r.window_end", moment},
			{"limit", "trim_scale(b.amount)::text", shown},
			{"spent", inUnit("r.settled"), shown},
			{"reserved", inUnit("r.reserved"), shown},
			{"overrun", inUnit("r.overrun"), shown},
			{"overruns", "r.overruns", integer},
		},
	}
)

// countsOnly is the condition of budgets that count calls of one team alone.
const countsOnly = `(b.team_id = %[1]s or b.team_ids = array[%[1]s]::bigint[] or b.project_ids <> '{}' and not exists (select from unnest(b.project_ids) u (id)
	where u.id not in (select id from projects where team_id = %[1]s)))`

// inUnit shows an amount of a budget's smallest parts.
func inUnit(amount string) string {
	return "trim_scale(case when b.unit = 'money' then " + amount + "::numeric / 1000000000 else " + amount + " end)::text"
}

// budgetsOf are those that count calls of a caller's team: its own, and those that name it or one of its projects.
var budgetsOf = reach{
	team:    "r.team_id = @ or @ = any (r.team_ids) or r.project_ids && array(select id from projects where team_id = @)",
	project: "r.team_id = (select team_id from projects where id = @) or (select team_id from projects where id = @) = any (r.team_ids) or @ = any (r.project_ids)",
	member:  "r.team_id = " + memberTeam + " or " + memberTeam + " = any (r.team_ids) or r.project_ids && array(select id from projects where team_id = " + memberTeam + ")",
}

func budgetKind(within reach) *Kind {
	return &Kind{
		Name: "budget", table: "budgets", joins: "left join teams t on t.id = r.team_id", within: within,
		fields: []field{
			{"name", "r.name", text},
			{"team_id", "coalesce(r.team_id, 0)", integer},
			{"team", "coalesce(t.name, '')", text},
			{"selector", budgetSelector, shown},
			{"each", "r.each", text},
			{"unit", "r.unit", text},
			{"currency", "r.currency", text},
			{"amount", "trim_scale(r.amount)::text", shown},
			{"window", `r."window"`, text},
			{"time_zone", "r.time_zone", text},
			{"soft", "not r.hard", boolean},
			{"clamp_max_tokens", "r.clamp_max_tokens", boolean},
			{"thresholds", "r.thresholds", shown},
			{"webhook_url", "r.webhook_url", shown},
		},
		// A declaration can name API keys that work alone.
		declared: "not exists (select from unnest(r.api_key_ids) u (id) left join api_keys k on k.id = u.id where not coalesce(" + usableKey + ", false))",
	}
}

// How budgets name what may be deleted.
var (
	countedTeamsLink, countedTeamsGuard                   = countedBy("team_ids", "team")
	countedProjectsLink, countedProjectsGuard             = countedBy("project_ids", "project")
	countedAccessProfilesLink, countedAccessProfilesGuard = countedBy("profile_ids", "access profile")
	countedAPIKeysLink, countedAPIKeysGuard               = countedBy("api_key_ids", "API key")
	countedProvidersLink, countedProvidersGuard           = countedBy("provider_ids", "provider")
	countedModelsLink, countedModelsGuard                 = countedBy("model_ids", "model")
)

// countedBy is how they name it in one list. An empty list stands for everything, so the only one of a list
// is not deleted.
func countedBy(column, what string) (link, guard) {
	return link{
			Budgets, fmt.Sprintf("select id from budgets where %s && $1 and deleted_at is null order by id", column),
			fmt.Sprintf(`update budgets set %[1]s = array(select i from unnest(%[1]s) with ordinality as u (i, n) where i <> all ($1) order by n), updated_at = now(),
				revision = (select revision from config_revision) where %[1]s && $1 and deleted_at is null`, column),
		}, guard{
			fmt.Sprintf("select id from budgets where %[1]s && $1 and %[1]s <@ $1 and deleted_at is null order by id", column),
			"budget %d counts the calls of this " + what + " alone, and would count those of all others: change its selector, or delete it first",
		}
}
