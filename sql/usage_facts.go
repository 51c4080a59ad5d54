package store

import (
	"strings"

	"github.com/ls1intum/edutelligence/logos"
)

// factsSQL is what usage_hours holds, worked out of the records themselves for calls that began from $1 on and
// before $2: each row is a part of a total, with at most one meter. Beside that it has the end user. It shares
// nothing with how totals are added up, so that each can be checked by the other.
const factsSQL = `
with c as materialized (select start_at, call_id, end_user, coalesce(team_id, 0) as team_id, project_id, api_key_id, coalesce(profile_id, 0) as profile_id, api, end_reason, service_tier
		from calls where start_at >= $1 and start_at < $2),
	a as materialized (select start_at, call_id, attempt, coalesce(model_id, 0) as model_id, provider_id, coalesce(deployment_id, 0) as deployment_id, coalesce(currency, '') as currency,
			row_number() over (partition by start_at, call_id order by attempt desc) = 1 as last
		from attempts where start_at >= $1 and start_at < $2),
	m as materialized (select start_at, call_id, attempt, meter, quantity, estimated, cost from meters where start_at >= $1 and start_at < $2),
	j as materialized (select start_at, call_id, attempt, meter, amount, currency, makes_known from adjustments where start_at >= $1 and start_at < $2),
	unpriced as (select distinct start_at, call_id from m where cost is null and quantity > 0
		and not exists (select from j where j.makes_known and (j.start_at, j.call_id, j.attempt, j.meter) = (m.start_at, m.call_id, m.attempt, m.meter))),
	parts (start_at, call_id, model_id, provider_id, deployment_id, currency, calls, attempts, unknown, cost, adjusted, meter, quantity, estimated, unpriced, charged) as (
		select a.start_at, a.call_id, a.model_id, a.provider_id, a.deployment_id, a.currency, a.last::int, 1, (a.last and u.call_id is not null)::int, 0::numeric, 0::numeric, '', 0::numeric, 0::numeric, 0::numeric, 0::numeric
		from a left join unpriced u on u.start_at = a.start_at and u.call_id = a.call_id
		union all
		select c.start_at, c.call_id, 0, 0, 0, '', 1, 0, 0, 0, 0, '', 0, 0, 0, 0
		from c where not exists (select from a where a.start_at = c.start_at and a.call_id = c.call_id)
		union all
		select a.start_at, a.call_id, a.model_id, a.provider_id, a.deployment_id, a.currency, 0, 0, 0, coalesce(m.cost, 0), 0, m.meter,
			m.quantity, case when m.estimated then m.quantity else 0 end, case when m.cost is null then m.quantity else 0 end, coalesce(m.cost, 0)
		from m join a on a.start_at = m.start_at and a.call_id = m.call_id and a.attempt = m.attempt
		union all
		select j.start_at, j.call_id, coalesce(a.model_id, 0), coalesce(a.provider_id, 0), coalesce(a.deployment_id, 0), j.currency, 0, 0, 0, j.amount, j.amount, j.meter,
			0, 0, 0, case when j.meter = '' then 0 else j.amount end
		from j left join a on a.start_at = j.start_at and a.call_id = j.call_id and (a.attempt = j.attempt or j.attempt is null and a.last)
		union all
		select a.start_at, a.call_id, a.model_id, a.provider_id, a.deployment_id, a.currency, 0, 0, 0, 0, 0, m.meter, 0, 0, -m.quantity, 0
		from j join a on a.start_at = j.start_at and a.call_id = j.call_id and a.attempt = j.attempt
			join m on m.start_at = j.start_at and m.call_id = j.call_id and m.attempt = j.attempt and m.meter = j.meter
		where j.makes_known)
select date_trunc('hour', c.start_at, 'UTC') as hour, c.end_user, c.team_id, c.project_id, c.api_key_id, c.profile_id, p.model_id, p.provider_id, p.deployment_id,
	c.api, c.end_reason, c.service_tier, p.currency, p.calls, p.attempts, p.unknown, p.cost, p.adjusted, c.start_at as first_at, c.start_at as last_at,
	p.meter, p.quantity, p.estimated, p.unpriced, p.charged
from parts p join c on c.start_at = p.start_at and c.call_id = p.call_id`

// A sum is one column of a total, and how it is worked out.
type sum struct{ column, of string }

// totalSums are the sums over totals, of some meters.
func totalSums(meters []logos.Meter) []sum {
	out := []sum{{"calls", "sum(calls)::bigint"}, {"attempts", "sum(attempts)::bigint"}, {"unknown", "sum(unknown)::bigint"}, {"cost", "sum(cost)"}, {"adjusted", "coalesce(sum(adjusted) filter (where adjusted <> 0), 0)"}}
	for _, m := range meters {
		for _, c := range meterColumns(m) {
			// Most are null. A sum that is never called takes no room, and groups are many.
			out = append(out, sum{c, "sum(" + c + ") filter (where " + c + " is not null)"})
		}
	}
	return out
}

// factSums are the same sums over facts.
func factSums(meters []logos.Meter) []sum {
	out := totalSums(nil)
	for _, m := range meters {
		for i, of := range []string{"quantity", "estimated", "unpriced", "charged"} {
			out = append(out, sum{meterColumns(m)[i], "sum(" + of + ") filter (where meter = '" + string(m) + "')"})
		}
	}
	return out
}

// selectSums writes sums as a part of a select clause.
func selectSums(sums []sum) string {
	out := make([]string, len(sums))
	for i, s := range sums {
		out[i] = s.of + " as " + s.column
	}
	return strings.Join(out, ", ")
}
