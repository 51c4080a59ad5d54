package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// reservedSQL has a row for each reservation of each call that began from $1 on and before $2, with what the call has
// used of the counter in the budget's smallest parts. It is worked out of decisions, attempts and meters in SQL, apart
// from [budget.Spent], which settles: each is a check of the other.
const reservedSQL = `select (r->>'b')::bigint as budget_id, to_timestamp(coalesce((r->>'w')::bigint, 0)) as window_start, coalesce(r->>'k', '') as each_key,
		nullif(to_timestamp(coalesce((r->>'e')::bigint, 0)), 'epoch') as window_end, c.start_at, c.call_id,
		case r->>'u' when 'requests' then least(u.attempts, 1) when 'tokens' then least(u.tokens, 2305843009213693951)
			else greatest(least(ceil(u.cost * 1000000000), 1000000000000000000), case when u.unknown then coalesce((r->>'a')::numeric, 0) else 0 end) end as used
	from calls c cross join lateral jsonb_array_elements(c.decision->'bu') r cross join lateral (
		select count(*) as attempts, coalesce(sum(m.tokens), 0) as tokens, coalesce(sum(m.cost) filter (where a.ours), 0) as cost, coalesce(bool_or(m.open or not a.ours), false) as unknown
		from (select attempt, coalesce(currency, '') in ('', coalesce(r->>'c', '')) as ours from attempts where start_at = c.start_at and call_id = c.call_id
			and exists (select from jsonb_array_elements(c.decision->'tg') with ordinality t (target, n) where target->>'n' = cluster and (r->>'t')::int >> (n - 1)::int & 1 = 1)) a
		cross join lateral (select sum(quantity) filter (where meter not in ('image', 'web_search', 'request')) as tokens, sum(cost) as cost, coalesce(bool_or(cost is null and quantity > 0), false) as open
			from meters where start_at = c.start_at and call_id = c.call_id and attempt = a.attempt) m) u
	where c.start_at >= $1 and c.start_at < $2 and c.end_reason <> 'refused' and r->>'u' <> 'parallel'`

// counterChecks are of whole windows: $1 is the start of the earliest that is looked at, $2 the end of what is, $3 and
// $4 are the time that was asked for, and what began before $5 is not on record any more.
var counterChecks = []check{
	// A window that reaches back further than the records can't be compared.
	{"budget_counter", `with used as (select budget_id, window_start, each_key, max(window_end) as window_end, sum(used) as used from (` + reservedSQL + `) x group by budget_id, window_start, each_key),
		kept as (select budget_id, window_start, each_key, max(window_end) as window_end, sum(settled) as settled from budget_shares group by budget_id, window_start, each_key)
		select 'budget ' || budget_id || case when each_key <> '' then ', ' || each_key else '' end || case when window_start <> 'epoch' then ', from ' || to_char(window_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') else '' end
			|| case when k.settled is null then ' has no counter' else ' has settled ' || settled end || ', and its calls have used ' || coalesce(used, 0)
		from kept k full join used u using (budget_id, window_start, each_key) left join budgets b on b.id = budget_id
		where coalesce(settled, 0) <> coalesce(used, 0) and coalesce(settled, 0) < 4000000000000000000
			and (case when window_start = 'epoch' then b.created_at else window_start end) >= $5::timestamptz
			and window_start < $4::timestamptz and coalesce(k.window_end, u.window_end, 'infinity') > $3::timestamptz
			-- Counters are removed a month after their window, and those of an end user who was erased at once, whose calls name none then.
			and (k.settled is not null or coalesce(u.window_end, 'infinity') > now() - interval '` + keptCounters + `' and not (each_key = '' and coalesce(b.each, '') <> ''))
		order by budget_id, window_start, each_key`},
	// Labels may have changed since, so what they select is not known any more. Tries of a provider, which are in no budget, are
	// under no profile.
	{"budget_missed", `select ` + callName + ` || ' should count for budget ' || b.id || ', and holds nothing of it'
		from calls c join budgets b on b.deleted_at is null and b.call_labels = '{}' and c.revision >= b.revision
			and (b.team_ids = '{}' or c.team_id = any (b.team_ids)) and (b.project_ids = '{}' or c.project_id = any (b.project_ids)) and (b.api_key_ids = '{}' or c.api_key_id = any (b.api_key_ids))
			and (b.profile_ids = '{}' or c.profile_id = any (b.profile_ids)) and (b.end_users = '{}' or c.end_user = any (b.end_users))
		where c.start_at >= greatest($1::timestamptz, $3::timestamptz) and c.start_at < least($2::timestamptz, $4::timestamptz) and c.start_at >= $5::timestamptz and c.end_reason <> 'refused' and c.profile_id is not null
			and exists (select from jsonb_array_elements(c.decision->'tg') t where (b.model_ids = '{}' or (t->>'m')::bigint = any (b.model_ids)) and (b.provider_ids = '{}' or (t->>'p')::bigint = any (b.provider_ids)))
			and not exists (select from jsonb_array_elements(c.decision->'bu') r where (r->>'b')::bigint = b.id)
		order by c.start_at, c.call_id`},
}

// keptCounters is for how long after its window a counter is certainly still there.
var keptCounters = fmt.Sprintf("%d days", counterDays-1)

// verifyCounters compares what counters of budgets have settled with what is on record of the calls that held something
// of them, at one moment: of whole windows that overlap the time asked for.
func (s *Store) verifyCounters(ctx context.Context, from, to, recordsFrom time.Time, found func(Finding)) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, forSums); err != nil {
			return err
		}
		var first time.Time
		if err := tx.QueryRow(ctx, `select coalesce(least($1::timestamptz, min(case when s.window_start = 'epoch' then b.created_at else s.window_start end)), $1)
			from budget_shares s left join budgets b on b.id = s.budget_id where coalesce(s.window_end, 'infinity') > $1`, from).Scan(&first); err != nil {
			return err
		}
		last := maxTime(to, time.Now().Add(day)).AddDate(1, 0, 0) // no window is longer
		for _, k := range counterChecks {
			if err := k.run(ctx, tx, found, maxTime(first.Add(-time.Hour), recordsFrom), last, from, to, recordsFrom); err != nil {
				return fmt.Errorf("check %s: %w", k.name, err)
			}
		}
		return nil
	})
}
