-- name: LockLedger :exec
-- Adjustments are made one after another.
select pg_advisory_xact_lock(sqlc.arg(key)::bigint);

-- name: UsageCalls :many
select c.start_at, c.call_id, c.gateway, c.api, c.model, c.team_id, c.project_id, c.api_key_id, c.profile_id, c.end_user, c.session,
    c.status, c.end_reason, c.service_tier, c.settled_at
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id) as u
join calls c on c.start_at = u.start_at and c.call_id = u.call_id;

-- name: UsageAttempts :many
select a.*
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id) as u
join attempts a on a.start_at = u.start_at and a.call_id = u.call_id
order by a.start_at, a.call_id, a.attempt;

-- name: UsageMeters :many
select m.*
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id) as u
join meters m on m.start_at = u.start_at and m.call_id = u.call_id
order by m.start_at, m.call_id, m.attempt, m.meter;

-- name: UsageAdjustments :many
select j.*
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id) as u
join adjustments j on j.start_at = u.start_at and j.call_id = u.call_id
order by j.id;

-- name: AdjustmentsByID :many
select j.*
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(id)::bigint[]) as id) as u
join adjustments j on j.start_at = u.start_at and j.id = u.id
order by j.id;

-- name: InsertAdjustments :many
insert into adjustments (start_at, call_id, attempt, meter, kind, amount, currency, makes_known, price_version, reason, team_id, project_id, api_key_id, author_key_id, author_member_id)
select u.start_at, u.call_id, nullif(u.attempt, 0), u.meter, sqlc.arg(kind)::text, u.amount::numeric, u.currency, u.makes_known, nullif(u.price_version, 0), sqlc.arg(reason)::text,
    nullif(u.team_id, 0), u.project_id, u.api_key_id, nullif(sqlc.arg(author_key_id)::bigint, 0), nullif(sqlc.arg(author_member_id)::bigint, 0)
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id,
    unnest(sqlc.arg(attempt)::integer[]) as attempt, unnest(sqlc.arg(meter)::text[]) as meter, unnest(sqlc.arg(amount)::text[]) as amount,
    unnest(sqlc.arg(currency)::text[]) as currency, unnest(sqlc.arg(makes_known)::boolean[]) as makes_known,
    unnest(sqlc.arg(price_version)::bigint[]) as price_version, unnest(sqlc.arg(team_id)::bigint[]) as team_id,
    unnest(sqlc.arg(project_id)::bigint[]) as project_id, unnest(sqlc.arg(api_key_id)::bigint[]) as api_key_id) as u
cross join (select set_config('logos.counts', 'on', true)) as counts -- the transaction adds them to the totals
returning id;

-- name: CallsFrom :many
-- The keys of the next calls in the order of their keys.
select start_at, call_id from calls
where start_at >= sqlc.arg(begin_at) and start_at < sqlc.arg(end_at)
    and (start_at, call_id) > (sqlc.arg(after_start)::timestamptz, sqlc.arg(after_id)::uuid)
order by start_at, call_id limit sqlc.arg(most);

-- name: LedgerState :one
select since, counted_to, counted_id, counted, records_from from ledger_state;

-- name: LockLedgerState :one
select since, counted_to, counted_id, counted, records_from from ledger_state for update skip locked;

-- name: SetCounted :exec
update ledger_state set counted_to = sqlc.arg(counted_to), counted_id = sqlc.arg(counted_id), counted = sqlc.arg(counted);

-- name: KeepRecordsFrom :exec
update ledger_state set records_from = greatest(records_from, sqlc.arg(records_from)::timestamptz);

-- name: UncountedBefore :many
-- Calls that were recorded before totals were kept. Those that a transaction recorded which began before and
-- ended after that are noted, so they are left out here.
with noted as materialized (select unnest(r.calls) as call_id from recordings r where r.recorded_at <= sqlc.arg(since)::timestamptz)
select c.start_at, c.call_id from calls c
where (c.start_at, c.call_id) > (sqlc.arg(after_start)::timestamptz, sqlc.arg(after_id)::uuid)
    and c.start_at < sqlc.arg(since)::timestamptz + interval '1 day' and c.settled_at <= sqlc.arg(since)::timestamptz
    and c.call_id not in (select n.call_id from noted n)
order by c.start_at, c.call_id limit sqlc.arg(most);

-- name: UncountedRecordings :many
-- What an older program recorded since.
select sequence, starts, calls from recordings where not counted order by sequence limit sqlc.arg(most) for update skip locked;

-- name: MarkCounted :exec
update recordings set counted = true where sequence = any (sqlc.arg(sequences)::bigint[]);

-- name: NoteRecorded :exec
insert into recordings (counted, starts, calls) values (true, sqlc.arg(starts)::timestamptz[], sqlc.arg(calls)::uuid[]);

-- name: Recordings :many
select sequence, recorded_at, starts, calls, adjustments from recordings
where sequence >= sqlc.arg(first) and sequence <= sqlc.arg(last)
order by sequence limit sqlc.arg(most);
