package store

import (
	"fmt"
	"slices"
	"strings"
)

// A Kind says how one kind of resource is stored and shown. A resource is shown as a JSON document whose
// members are named like the fields of its message in the admin API; no document holds a secret. The same
// documents are what the admin API answers, what audit events keep, and what is exported.
type Kind struct {
	Name   string // e.g. "access_profile"
	table  string
	joins  string  // after "from <table> r"
	fields []field // beside those that all kinds have
	within reach
	// children are deleted with it, links removed; blockers must be gone before, and guards find nothing.
	children, blockers []child
	links              []link
	guards             []guard
	order              []term // the order of lists, if not by id
	prefer             string // terms before the id that say which of several is found by name
	anyCase            string // the field by which one is found whatever its case
	declared           string // the condition of those that a declaration can name; empty: all
	plural             string // of the name, if not with an s
	bare               bool   // no labels, uid and deletion
}

// A field is one member of a document. Its expression is over the alias r and the kind's joins.
type field struct {
	name, expr string
	is         fieldType
}

// A fieldType says how a field is compared in filters.
type fieldType int

const (
	shown fieldType = iota // not in filters
	integer
	text
	boolean
	number
	moment
	texts
)

// reach holds, for each way in which a caller can be confined, which rows are within; @ stands for the id.
// An empty condition means none.
type reach struct{ team, project, member string }

// A Scope confines what is seen and changed. The zero Scope confines nothing; of several ids all hold.
type Scope struct {
	Team, Project, Member int64
	Nothing               bool // not even one resource
}

const memberTeam = "(select team_id from members where id = @)"

const (
	grantedTo = `exists (select from profile_models g join profiles f on f.id = g.profile_id and f.deleted_at is null
		join projects p on p.id = f.project_id and p.deleted_at is null where g.model_id = %s and %s)`
	modelNames = `coalesce((select jsonb_agg(m.name order by g.id) from profile_models g join models m on m.id = g.model_id and m.deleted_at is null
		where g.profile_id = r.id), '[]')`
	grants = `coalesce((select jsonb_agg(jsonb_build_object('provider', p.name, 'credential', coalesce(c.name, '')) order by g.position)
		from profile_providers g join providers p on p.id = g.provider_id and p.deleted_at is null
		left join credentials c on c.id = g.credential_id where g.profile_id = r.id and c.deleted_at is null), '[]')`
	keyState = `case when r.deleted_at is not null then 'deleted' when r.revoked_at is not null then 'revoked'
		when r.expires_at <= now() then 'expired' when r.claim_hash is not null then 'unclaimed' else 'active' end`
	keyScopes = `jsonb_build_object('apis', r.allowed_apis, 'source_cidrs', r.allowed_cidrs, 'models',
		coalesce((select jsonb_agg(m.name order by m.name) from models m where m.id = any (r.allowed_models)), '[]'))`
)

func grantedReach(model string) reach {
	return reach{
		team:    fmt.Sprintf(grantedTo, model, "p.team_id = @"),
		project: fmt.Sprintf(grantedTo, model, "p.id = @"),
		member:  fmt.Sprintf(grantedTo, model, "p.team_id = "+memberTeam),
	}
}

// The kinds of resources.
var (
	Teams = &Kind{
		Name: "team", table: "teams",
		fields: []field{
			{"name", "r.name", text},
			{"member_key_limit", "r.member_key_limit", integer},
			{"member_key_max_age", "r.member_key_max_age_s || 's'", shown},
		},
		within: reach{
			team:    "r.id = @",
			project: "r.id = (select team_id from projects where id = @)",
			member:  "r.id = " + memberTeam,
		},
		blockers: []child{{Projects, "team_id"}, {Members, "team_id"}},
		children: []child{{Policies, "team_id"}, {Budgets, "team_id"}},
		links:    []link{countedTeamsLink},
		guards:   []guard{countedTeamsGuard},
	}
	Projects = &Kind{
		Name: "project", table: "projects", joins: "left join teams t on t.id = r.team_id",
		fields: []field{
			{"name", "r.name", text},
			{"team_id", "coalesce(r.team_id, 0)", integer},
			{"team", "coalesce(t.name, '')", text},
		},
		within:   reach{team: "r.team_id = @", project: "r.id = @", member: "r.team_id = " + memberTeam},
		children: []child{{APIKeys, "project_id"}, {AccessProfiles, "project_id"}, {Policies, "project_id"}},
		links:    []link{countedProjectsLink},
		guards:   []guard{countedProjectsGuard},
	}
	Members = &Kind{
		Name: "member", table: "members", joins: "left join teams t on t.id = r.team_id",
		fields: []field{
			{"email", "r.email", text},
			{"name", "r.name", text},
			{"team_id", "coalesce(r.team_id, 0)", integer},
			{"team", "coalesce(t.name, '')", text},
			{"role", "r.role", text},
		},
		within:   reach{team: "r.team_id = @", member: "r.id = @"},
		children: []child{{APIKeys, "member_id"}},
		anyCase:  "email",
	}
	AccessProfiles = &Kind{
		Name: "access_profile", table: "profiles", joins: "join projects p on p.id = r.project_id",
		fields: []field{
			{"name", "r.name", text},
			{"project_id", "r.project_id", integer},
			{"project", "p.name", text},
			{"passthrough", "r.passthrough", boolean},
			{"models", modelNames, shown},
			{"grants", grants, shown},
		},
		within:   reach{team: "p.team_id = @", project: "r.project_id = @", member: "p.team_id = " + memberTeam},
		children: []child{{Policies, "profile_id"}},
		links:    []link{countedAccessProfilesLink},
		guards:   []guard{countedAccessProfilesGuard},
	}
	APIKeys = &Kind{
		Name: "api_key", table: "api_keys",
		joins: "join projects p on p.id = r.project_id left join profiles f on f.id = r.profile_id and f.deleted_at is null left join members b on b.id = r.member_id",
		fields: []field{
			{"name", "r.name", text},
			{"project_id", "r.project_id", integer},
			{"project", "p.name", text},
			{"access_profile_id", "coalesce(r.profile_id, 0)", integer},
			{"access_profile", "coalesce(f.name, '')", text},
			{"member_id", "coalesce(r.member_id, 0)", integer},
			{"member", "coalesce(b.email, '')", text},
			{"role", "coalesce(b.role, r.role)", text},
			{"expire_time", "r.expires_at", moment},
			{"scopes", keyScopes, shown},
			{"prefix", "r.prefix", text},
			{"last_four", "r.hint", text},
			{"state", keyState, text},
			{"revoke_time", "r.revoked_at", moment},
			{"last_use_time", "r.last_used_at", moment},
			{"previous_expire_time", "r.previous_expires_at", moment},
		},
		within:   reach{team: "p.team_id = @", project: "r.project_id = @", member: "r.member_id = @"},
		children: []child{{Policies, "api_key_id"}},
		// The name is that of one key that works, and maybe of others that worked before.
		prefer: "(r.revoked_at is null) desc, (r.expires_at is null or r.expires_at > now()) desc, ",
		links:  []link{countedAPIKeysLink},
		guards: []guard{countedAPIKeysGuard},
	}
	Providers = &Kind{
		Name: "provider", table: "providers",
		fields: []field{
			{"name", "r.name", text},
			{"base_url", "r.base_url", text},
			{"dialect", "r.dialect", text},
			{"auth_header", "coalesce(nullif(r.auth_header, ''), 'none')", text},
			{"auth_format", "case when r.auth_header = '' then '' else r.auth_format end", text},
			{"privacy_zone", "r.privacy_zone", text},
		},
		children: []child{{Prices, "provider_id"}, {Deployments, "provider_id"}, {Credentials, "provider_id"}},
		links: []link{countedProvidersLink, {AccessProfiles, "select distinct profile_id from profile_providers where provider_id = any ($1) order by 1",
			"delete from profile_providers where provider_id = any ($1)"}},
		guards: []guard{countedProvidersGuard, deniedBy("providers", "provider")},
	}
	Credentials = &Kind{
		Name: "credential", table: "credentials", joins: "join providers p on p.id = r.provider_id",
		fields: []field{
			{"name", "r.name", text},
			{"provider_id", "r.provider_id", integer},
			{"provider", "p.name", text},
		},
		links: []link{
			{AccessProfiles, "select distinct profile_id from profile_providers where credential_id = any ($1) order by 1",
				"delete from profile_providers where credential_id = any ($1)"},
			{Deployments, "select id from deployments where credential_id = any ($1) and deleted_at is null order by id",
				"update deployments set credential_id = null, updated_at = now(), revision = (select revision from config_revision) where credential_id = any ($1) and deleted_at is null"},
		},
	}
	Models = &Kind{
		Name: "model", table: "models",
		fields: []field{
			{"name", "r.name", text},
			{"endpoint", "r.endpoint", text},
			{"capabilities", "r.capabilities", texts},
			{"context_window", "coalesce(r.context_window, 0)", integer},
			{"max_output_tokens", "coalesce(r.max_output_tokens, 0)", integer},
			{"quality", "r.quality", number},
			{"accuracy", "r.accuracy", number},
			{"task_quality", "r.task_quality", shown},
			{"task_accuracy", "r.task_accuracy", shown},
		},
		within:   grantedReach("r.id"),
		children: []child{{Prices, "model_id"}, {Deployments, "model_id"}},
		links: []link{
			countedModelsLink,
			{AccessProfiles, "select distinct profile_id from profile_models where model_id = any ($1) order by 1",
				"delete from profile_models where model_id = any ($1)"},
			{APIKeys, "select id from api_keys where allowed_models && $1 and deleted_at is null order by id",
				"update api_keys set allowed_models = array(select m from unnest(allowed_models) with ordinality as u (m, n) where m <> all ($1) order by n), updated_at = now(), revision = (select revision from config_revision) where allowed_models && $1 and deleted_at is null"},
		},
		// An empty list stands for everything.
		guards: []guard{
			countedModelsGuard,
			{"select id from api_keys where allowed_models && $1 and allowed_models <@ $1 and deleted_at is null and revoked_at is null order by id",
				"API key %d may use this model alone, and would be left with all models: change its scopes, or revoke it first"},
			{`select f.id from profiles f where f.passthrough and f.deleted_at is null
					and exists (select from profile_models g where g.profile_id = f.id and g.model_id = any ($1))
					and not exists (select from profile_models g where g.profile_id = f.id and g.model_id <> all ($1)) order by f.id`,
				"access profile %d has no other model, and would be left passing everything through: change its models or its passthrough first"},
			deniedBy("models", "model"),
		},
	}
	Deployments = &Kind{
		Name: "deployment", table: "deployments",
		joins: "join models m on m.id = r.model_id join providers p on p.id = r.provider_id left join credentials c on c.id = r.credential_id and c.deleted_at is null",
		fields: []field{
			{"name", "r.name", text},
			{"model_id", "r.model_id", integer},
			{"model", "m.name", text},
			{"provider_id", "r.provider_id", integer},
			{"provider", "p.name", text},
			{"credential_id", "coalesce(c.id, 0)", integer},
			{"credential", "coalesce(c.name, '')", text},
			{"provider_model", "r.provider_model", text},
			{"endpoint", "r.endpoint", text},
			{"apis", "r.apis", texts},
			{"include_usage", "r.include_usage", boolean},
			{"service_tier", "r.service_tier", text},
			{"max_parallel", "r.max_parallel", integer},
			{"max_requests_per_minute", "r.max_requests", integer},
			{"max_tokens_per_minute", "r.max_tokens", integer},
			{"drained", "r.drained", boolean},
		},
		within:   grantedReach("r.model_id"),
		children: []child{{Prices, "deployment_id"}},
		guards:   []guard{deniedBy("deployments", "deployment")},
	}
	AuditEvents = &Kind{
		Name: "audit_event", table: "audit_events", bare: true, order: []term{{"r.id", "bigint", true}},
		fields: []field{
			{"time", "r.at", moment},
			{"revision", "r.revision", integer},
			{"method", "r.method", text},
			{"kind", "r.kind", text},
			{"resource_id", "r.resource_id", integer},
			{"api_key_id", "coalesce(r.api_key_id, 0)", integer},
			{"member_id", "coalesce(r.member_id, 0)", integer},
			{"role", "r.role", text},
			{"source", "r.source", text},
			{"request_id", "r.request_id", text},
			{"team_id", "coalesce(r.team_id, 0)", integer},
			{"project_id", "coalesce(r.project_id, 0)", integer},
			{"before", "r.before", shown},
			{"after", "r.after", shown},
		},
		within: reach{team: "r.team_id = @"},
	}
	Calls = &Kind{
		Name: "call", table: "calls", bare: true, order: []term{{"r.start_at", "timestamptz", true}, {"r.call_id", "uuid", true}},
		fields: []field{
			{"id", "r.call_id::text", text},
			{"gateway", "r.gateway", text},
			{"start", "r.start_at", moment},
			{"end_reason", "r.end_reason", text},
			{"status", "coalesce(r.status, 0)", integer},
			{"method", "r.method", text},
			{"api", "r.api", text},
			{"model", "r.model", text},
			{"stream", "r.stream", boolean},
			{"duration", "round(r.duration_us / 1000000.0, 6) || 's'", shown},
			{"first_byte", "round(r.first_byte_us / 1000000.0, 6) || 's'", shown},
			{"request_bytes", "r.request_bytes", integer},
			{"answer_bytes", "r.answer_bytes", integer},
			{"project_id", "r.project_id", integer},
			{"api_key_id", "r.api_key_id", integer},
			{"profile_id", "coalesce(r.profile_id, 0)", integer},
			{"team_id", "coalesce(r.team_id, 0)", integer},
			{"end_user", "r.end_user", text},
			{"session", "r.session", text},
			{"service_tier", "r.service_tier", text},
			{"error", "case when r.error_code || r.error_type || r.error_message <> '' then jsonb_build_object('code', r.error_code, 'type', r.error_type, 'message', r.error_message) end", shown},
			{"cost", "coalesce(trim_scale(r.cost) || coalesce(' ' || r.currency, ''), 'unknown')", shown},
			{"revision", "r.revision", integer},
		},
		within: reach{
			team: "r.team_id = @", project: "r.project_id = @",
			member: "r.api_key_id in (select id from api_keys where member_id = @)",
		},
	}
	settings = &Kind{
		Name: "settings", table: "settings", bare: true,
		fields: []field{
			{"egress_hosts", "r.egress_hosts", shown},
			{"egress_cidrs", "r.egress_cidrs", shown},
			{"call_retention_days", "r.call_retention_days", shown},
			{"audit_retention_days", "r.audit_retention_days", shown},
			{"unknown_line_retention_days", "r.unknown_line_retention_days", shown},
			{"claim_lifetime", "r.claim_lifetime_s || 's'", shown},
			{"task_matchers", "r.task_matchers", shown},
			{"etag", "r.revision::text", shown},
			{"update_time", "r.updated_at", shown},
		},
	}
)

// common are the fields that every kind has whose resources come and go.
var common = []field{
	{"labels", "r.labels", shown},
	{"etag", "r.revision::text", shown},
	{"uid", "r.public_id::text", text},
	{"create_time", "r.created_at", moment},
	{"update_time", "r.updated_at", moment},
	{"delete_time", "r.deleted_at", moment},
}

// all returns every field of a kind's documents.
func (k *Kind) all() []field {
	out := k.fields
	if k != settings && k != Calls && k != PriceVersions && k != usageKind && k != BudgetCounters {
		out = append([]field{{"id", "r.id", integer}}, out...)
	}
	if !k.bare {
		out = append(slices.Clip(out), common...)
	}
	return out
}

// document is the expression of a whole document.
func (k *Kind) document() string {
	parts := make([]string, 0, 40)
	for _, f := range k.all() {
		parts = append(parts, "'"+f.name+"', "+f.expr)
	}
	return "jsonb_build_object(" + strings.Join(parts, ", ") + ")"
}

// there is a further condition, of what is not deleted.
func (k *Kind) there() string {
	if k.bare {
		return ""
	}
	return " and r.deleted_at is null"
}

// source is the from clause.
func (k *Kind) source() string { return k.table + " r " + k.joins }
