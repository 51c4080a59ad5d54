package store

import "fmt"

// The expressions below show a policy's spec (see policySpec) as its message has it: what it names by id, by
// name. What was deleted is not shown. They stand whatever a spec holds, since one that a newer program wrote
// must not hide the others.

// ids are the numbers in a list of a JSON object, as rows u (id, n) in their order.
func ids(object, list string) string {
	return fmt.Sprintf(`(select (i #>> '{}')::numeric as id, n from jsonb_path_query(%s, '$.%s[*] ? (@.type() == "number")') with ordinality as q (i, n)) u`, object, list)
}

// named are the names of those of a list that are there.
func named(object, list string) string {
	return fmt.Sprintf(`(select coalesce(jsonb_agg(x.name order by u.n), '[]') from %s join %s x on x.id = u.id and x.deleted_at is null)`, ids(object, list), list)
}

// namedDeployments are those of a list that are there, each by what it is told apart by.
func namedDeployments(object string) string {
	return fmt.Sprintf(`(select coalesce(jsonb_agg(jsonb_build_object('provider', p.name, 'model', m.name, 'name', d.name) order by u.n), '[]') from %s
		join deployments d on d.id = u.id and d.deleted_at is null join models m on m.id = d.model_id join providers p on p.id = d.provider_id)`, ids(object, "deployments"))
}

// targets shows lists in which to be absent and to be empty is the same.
func targets(object string) string {
	return fmt.Sprintf(`jsonb_build_object('models', %s, 'providers', %s, 'deployments', %s)`,
		named(object, "models"), named(object, "providers"), namedDeployments(object))
}

// allowed shows lists in which it is not: each is an object of its own, or not there.
func allowed(object string) string {
	list := func(name, member, names string) string {
		return fmt.Sprintf(`'%s', case when %s ? '%s' then jsonb_build_object('%s', %s) end`, name, object, name, member, names)
	}
	return fmt.Sprintf(`jsonb_build_object(%s, %s, %s)`, list("models", "names", named(object, "models")),
		list("providers", "names", named(object, "providers")), list("deployments", "deployments", namedDeployments(object)))
}

// replaced shows an object with one member shown otherwise, if it has that.
func replaced(object, member, shown string) string {
	return fmt.Sprintf(`(case when %[1]s ? '%[2]s' then jsonb_build_object('%[2]s', %[3]s) else '{}' end)`, object, member, shown)
}

const (
	specConstraints = "(r.spec -> 'constraints')"
	specAllow       = "(r.spec #> '{constraints,allow}')"
	specDeny        = "(r.spec #> '{constraints,deny}')"
	specObjective   = "(r.spec -> 'objective')"
)

func shownConstraints() string {
	return specConstraints + " || " + replaced(specConstraints, "allow", allowed(specAllow)) + " || " + replaced(specConstraints, "deny", targets(specDeny))
}

func shownObjective() string {
	canaries := fmt.Sprintf(`(select jsonb_agg(c || jsonb_build_object('targets', %s) order by n) from jsonb_path_query(r.spec, '$.objective.canaries[*] ? (@.type() == "object")') with ordinality as q (c, n))`,
		targets("(c -> 'targets')"))
	return specObjective + " || " + replaced(specObjective, "canaries", canaries)
}

// usableKey is the condition of API keys that a declaration can name: they work, and are not root's.
const usableKey = "k.deleted_at is null and k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and k.role <> 'root'"

const policyJoins = `left join teams t on t.id = r.team_id left join profiles f on f.id = r.profile_id left join api_keys k on k.id = r.api_key_id
	left join projects p on p.id = coalesce(r.project_id, f.project_id, k.project_id)`

// The kinds of policies: those that a caller may change, which are those of what it may change itself, so that whom a
// policy binds can't loosen it; those that concern it, and all states of the latter,
// the last first, where each has the id of its policy and its revision as the etag.
var (
	Policies = policyKind("policies", nil, reach{team: "r.level in ('project', 'api_key') and p.team_id = @", project: "false", member: "false"})

	PoliciesSeen = policyKind("policies", nil, concerned)

	PolicyVersions = policyKind("(select v.* from policy_versions o cross join lateral jsonb_populate_record(null::policies, o.document) v)",
		[]term{{"r.revision", "bigint", true}, {"r.id", "bigint", true}}, concerned)
)

// concerned are those whom policies concern. A member's keys are its own; of other keys it sees nothing.
var concerned = reach{
	team:    "r.level = 'installation' or r.team_id = @ or p.team_id = @",
	project: "r.level = 'installation' or r.team_id = (select team_id from projects where id = @) or p.id = @",
	member:  "r.level = 'installation' or r.team_id = " + memberTeam + " or p.team_id = " + memberTeam + " and r.level <> 'api_key' or k.member_id = @",
}

func policyKind(table string, order []term, within reach) *Kind {
	return &Kind{
		Name: "policy", plural: "policies", table: table, joins: policyJoins, order: order, within: within,
		fields: []field{
			{"name", "r.name", text},
			{"level", "r.level", text},
			{"team_id", "coalesce(r.team_id, 0)", integer},
			{"team", "coalesce(t.name, '')", text},
			{"project_id", "coalesce(p.id, 0)", integer},
			{"project", "coalesce(p.name, '')", text},
			{"access_profile_id", "coalesce(r.profile_id, 0)", integer},
			{"access_profile", "coalesce(f.name, '')", text},
			{"api_key_id", "coalesce(r.api_key_id, 0)", integer},
			{"api_key", "coalesce(k.name, '')", text},
			{"on_request", "r.on_request", boolean},
			{"when", "r.spec -> 'when'", shown},
			{"constraints", shownConstraints(), shown},
			{"rules", "r.spec -> 'rules'", shown},
			{"relax", "r.spec -> 'relax'", shown},
			{"objective", shownObjective(), shown},
			{"attempts", "r.spec -> 'attempts'", shown},
			{"scheduling", "r.spec -> 'scheduling'", shown},
		},
		// A name of an API key is that of one that works, and maybe of others that worked before.
		prefer:   "(k.revoked_at is null) desc, (k.expires_at is null or k.expires_at > now()) desc, ",
		declared: "k.id is null or " + usableKey,
	}
}

// deniedBy refuses to delete what a policy denies by id: it would not deny one that is made again in its place.
func deniedBy(list, what string) guard {
	return guard{
		find:    fmt.Sprintf("select id from policies where spec #> '{constraints,deny,%s}' @> any (select to_jsonb(d) from unnest($1::bigint[]) d) and deleted_at is null order by id", list),
		message: "policy %d denies this " + what + ", and would not deny one that is made again in its place: take it off the policy's deny list first",
	}
}
