-- name: ChangedBudgets :many
select id, name, revision, team_id, team_ids, project_ids, api_key_ids, profile_ids, model_ids, provider_ids, end_users, call_labels,
    each, unit, currency, amount::text as amount, "window", time_zone, hard, clamp_max_tokens, thresholds, webhook_url, labels,
    (deleted_at is not null)::boolean as gone
from budgets where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: StartGateway :one
insert into gateway_epochs (gateway, epoch) values ($1, 1)
on conflict (gateway) do update set epoch = gateway_epochs.epoch + 1 returning epoch;

-- name: GatewayEpochs :many
-- None, where the gateway never started. No later process starts before the transaction ends.
select epoch from gateway_epochs where gateway = $1 for share;

-- name: OpenCounters :exec
-- In the order given, which is the same for all, so that two who open some of them never wait for each other.
insert into budget_counters (budget_id, window_start, each_key, window_end)
select u.budget_id, u.window_start, u.each_key, nullif(u.window_end, 'epoch')
from (select unnest(sqlc.arg(budget_id)::bigint[]) as budget_id, unnest(sqlc.arg(window_start)::timestamptz[]) as window_start,
    unnest(sqlc.arg(each_key)::text[]) as each_key, unnest(sqlc.arg(window_end)::timestamptz[]) as window_end) as u
on conflict do nothing;

-- name: LockCounters :many
select c.budget_id, c.window_start, c.each_key, coalesce(b.unit, '')::text as unit, coalesce(b.amount, 0)::text as amount
from budget_counters c
join (select unnest(sqlc.arg(budget_id)::bigint[]) as budget_id, unnest(sqlc.arg(window_start)::timestamptz[]) as window_start,
    unnest(sqlc.arg(each_key)::text[]) as each_key) as u
    on u.budget_id = c.budget_id and u.window_start = c.window_start and u.each_key = c.each_key
left join budgets b on b.id = c.budget_id and b.deleted_at is null
order by c.budget_id, c.window_start, c.each_key collate "C" for update of c;

-- name: LockShares :many
select s.budget_id, s.window_start, s.each_key, s.gateway, s.granted, s.settled, s.version,
    (s.leased_until > now())::boolean as live, (s.held_until < now())::boolean as lapsed
from budget_shares s
join (select unnest(sqlc.arg(budget_id)::bigint[]) as budget_id, unnest(sqlc.arg(window_start)::timestamptz[]) as window_start,
    unnest(sqlc.arg(each_key)::text[]) as each_key) as u
    on u.budget_id = s.budget_id and u.window_start = s.window_start and u.each_key = s.each_key
order by s.budget_id, s.window_start, s.each_key collate "C", s.gateway collate "C" for update of s;

-- name: LapseShares :exec
update budget_shares s set granted = s.settled
from (select unnest(sqlc.arg(budget_id)::bigint[]) as budget_id, unnest(sqlc.arg(window_start)::timestamptz[]) as window_start,
    unnest(sqlc.arg(each_key)::text[]) as each_key, unnest(sqlc.arg(gateway)::text[]) as gateway) as u
where u.budget_id = s.budget_id and u.window_start = s.window_start and u.each_key = s.each_key and u.gateway = s.gateway;

-- name: GrantShares :exec
insert into budget_shares (budget_id, window_start, each_key, gateway, window_end, epoch, granted, reserved, leased_until, held_until)
select u.budget_id, u.window_start, u.each_key, sqlc.arg(gateway)::text, nullif(u.window_end, 'epoch'), sqlc.arg(epoch)::bigint, u.granted, u.reserved,
    now() + sqlc.arg(lease)::interval, now() + sqlc.arg(hold)::interval
from (select unnest(sqlc.arg(budget_id)::bigint[]) as budget_id, unnest(sqlc.arg(window_start)::timestamptz[]) as window_start,
    unnest(sqlc.arg(each_key)::text[]) as each_key, unnest(sqlc.arg(window_end)::timestamptz[]) as window_end,
    unnest(sqlc.arg(granted)::bigint[]) as granted, unnest(sqlc.arg(reserved)::bigint[]) as reserved) as u
on conflict (budget_id, window_start, each_key, gateway) do update set epoch = excluded.epoch, granted = excluded.granted,
    reserved = excluded.reserved, leased_until = excluded.leased_until, held_until = excluded.held_until;

-- name: SettleShares :many
-- No sum of what calls say may be too large to be stored. Where nothing is settled anew it only tells the sum.
insert into budget_shares (budget_id, window_start, each_key, gateway, window_end, settled, version, overrun, overruns)
select u.budget_id, u.window_start, u.each_key, sqlc.arg(gateway)::text, nullif(u.window_end, 'epoch'), u.settled, (u.settled > 0)::integer, u.overrun, u.overruns
from (select unnest(sqlc.arg(budget_id)::bigint[]) as budget_id, unnest(sqlc.arg(window_start)::timestamptz[]) as window_start,
    unnest(sqlc.arg(each_key)::text[]) as each_key, unnest(sqlc.arg(window_end)::timestamptz[]) as window_end,
    unnest(sqlc.arg(settled)::bigint[]) as settled, unnest(sqlc.arg(overrun)::bigint[]) as overrun,
    unnest(sqlc.arg(overruns)::bigint[]) as overruns) as u
on conflict (budget_id, window_start, each_key, gateway) do update set
    settled = budget_shares.settled + least(excluded.settled, 4000000000000000000 - budget_shares.settled),
    overrun = budget_shares.overrun + least(excluded.overrun, 4000000000000000000 - budget_shares.overrun),
    overruns = budget_shares.overruns + excluded.overruns, version = budget_shares.version + (excluded.settled > 0)::integer
returning budget_id, window_start, each_key, settled, version;

-- name: CounterSums :many
select s.budget_id, s.window_start, s.each_key, least(sum(s.settled), 4000000000000000000)::bigint as settled, c.told
from budget_shares s
join (select unnest(sqlc.arg(budget_id)::bigint[]) as budget_id, unnest(sqlc.arg(window_start)::timestamptz[]) as window_start,
    unnest(sqlc.arg(each_key)::text[]) as each_key) as u
    on u.budget_id = s.budget_id and u.window_start = s.window_start and u.each_key = s.each_key
join budget_counters c on c.budget_id = s.budget_id and c.window_start = s.window_start and c.each_key = s.each_key
group by s.budget_id, s.window_start, s.each_key, c.told;

-- name: TellThreshold :execrows
-- Of all gateways that see it, one tells.
update budget_counters set told = sqlc.arg(told) where budget_id = $1 and window_start = $2 and each_key = $3 and told < sqlc.arg(told);
