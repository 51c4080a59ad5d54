-- name: InsertCalls :many
insert into calls (start_at, call_id, gateway, revision, api, stream, model, team_id, project_id, api_key_id, profile_id,
    end_user, session, method, status, end_reason, duration_us, first_byte_us, request_bytes, answer_bytes,
    service_tier, error_code, error_type, error_message, decision, cost, currency)
select u.start_at, u.call_id, sqlc.arg(gateway)::text, u.revision, u.api, u.stream, u.model, nullif(u.team_id, 0), u.project_id, u.api_key_id, nullif(u.profile_id, 0),
    u.end_user, u.session, u.method, nullif(u.status, 0), u.end_reason, u.duration_us, nullif(u.first_byte_us, 0), u.request_bytes, u.answer_bytes,
    u.service_tier, u.error_code, u.error_type, u.error_message, u.decision, nullif(u.cost, '')::numeric, nullif(u.currency, '')
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id,
    unnest(sqlc.arg(revision)::bigint[]) as revision, unnest(sqlc.arg(api)::text[]) as api,
    unnest(sqlc.arg(stream)::boolean[]) as stream, unnest(sqlc.arg(model)::text[]) as model,
    unnest(sqlc.arg(team_id)::bigint[]) as team_id, unnest(sqlc.arg(project_id)::bigint[]) as project_id,
    unnest(sqlc.arg(api_key_id)::bigint[]) as api_key_id, unnest(sqlc.arg(profile_id)::bigint[]) as profile_id,
    unnest(sqlc.arg(end_user)::text[]) as end_user, unnest(sqlc.arg(session)::text[]) as session,
    unnest(sqlc.arg(method)::text[]) as method, unnest(sqlc.arg(status)::integer[]) as status,
    unnest(sqlc.arg(end_reason)::text[]) as end_reason, unnest(sqlc.arg(duration_us)::bigint[]) as duration_us,
    unnest(sqlc.arg(first_byte_us)::bigint[]) as first_byte_us,
    unnest(sqlc.arg(request_bytes)::bigint[]) as request_bytes,
    unnest(sqlc.arg(answer_bytes)::bigint[]) as answer_bytes,
    unnest(sqlc.arg(service_tier)::text[]) as service_tier, unnest(sqlc.arg(error_code)::text[]) as error_code,
    unnest(sqlc.arg(error_type)::text[]) as error_type, unnest(sqlc.arg(error_message)::text[]) as error_message,
    unnest(sqlc.arg(decision)::jsonb[]) as decision,
    unnest(sqlc.arg(cost)::text[]) as cost, unnest(sqlc.arg(currency)::text[]) as currency) as u
cross join (select set_config('logos.counts', 'on', true)) as counts -- the transaction adds them to the totals
on conflict (start_at, call_id) do nothing
returning call_id;

-- name: InsertAttempts :exec
insert into attempts (start_at, call_id, attempt, deployment_id, model_id, provider_id, credential_id, cluster, started_at,
    duration_us, status, end_reason, provider_request_id, detail, price_version, cost, currency)
select u.start_at, u.call_id, u.attempt, nullif(u.deployment_id, 0), nullif(u.model_id, 0), u.provider_id, nullif(u.credential_id, 0), u.cluster, u.started_at,
    u.duration_us, nullif(u.status, 0), u.end_reason, u.provider_request_id, u.detail,
    nullif(u.price_version, 0), nullif(u.cost, '')::numeric, nullif(u.currency, '')
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id,
    unnest(sqlc.arg(attempt)::integer[]) as attempt, unnest(sqlc.arg(deployment_id)::bigint[]) as deployment_id,
    unnest(sqlc.arg(model_id)::bigint[]) as model_id, unnest(sqlc.arg(provider_id)::bigint[]) as provider_id,
    unnest(sqlc.arg(credential_id)::bigint[]) as credential_id, unnest(sqlc.arg(cluster)::text[]) as cluster,
    unnest(sqlc.arg(started_at)::timestamptz[]) as started_at,
    unnest(sqlc.arg(duration_us)::bigint[]) as duration_us, unnest(sqlc.arg(status)::integer[]) as status,
    unnest(sqlc.arg(end_reason)::text[]) as end_reason,
    unnest(sqlc.arg(provider_request_id)::text[]) as provider_request_id,
    unnest(sqlc.arg(detail)::text[]) as detail,
    unnest(sqlc.arg(price_version)::bigint[]) as price_version, unnest(sqlc.arg(cost)::text[]) as cost,
    unnest(sqlc.arg(currency)::text[]) as currency) as u
on conflict (start_at, call_id, attempt) do nothing;

-- name: InsertMeters :exec
insert into meters (start_at, call_id, attempt, meter, quantity, estimated, cost, price_version)
select u.start_at, u.call_id, u.attempt, u.meter, u.quantity, u.estimated, nullif(u.cost, '')::numeric, nullif(u.price_version, 0)
from (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id,
    unnest(sqlc.arg(attempt)::integer[]) as attempt, unnest(sqlc.arg(meter)::text[]) as meter,
    unnest(sqlc.arg(quantity)::bigint[]) as quantity, unnest(sqlc.arg(estimated)::boolean[]) as estimated,
    unnest(sqlc.arg(cost)::text[]) as cost, unnest(sqlc.arg(price_version)::bigint[]) as price_version) as u
on conflict (start_at, call_id, attempt, meter) do nothing;

-- name: NoteKeyUse :exec
-- A key that somebody else is changing at this moment is left for the next batch: so this waits for nobody,
-- and can't be part of a deadlock.
with used as (
    select k.id, u.at
    from (select unnest(sqlc.arg(ids)::bigint[]) as id, unnest(sqlc.arg(at)::timestamptz[]) as at) as u
    join api_keys k on k.id = u.id
    where k.last_used_at is null or k.last_used_at < u.at
    order by k.id
    for no key update of k skip locked)
update api_keys set last_used_at = used.at from used where api_keys.id = used.id;

-- name: RecordedCalls :many
select c.call_id from calls c
join (select unnest(sqlc.arg(start_at)::timestamptz[]) as start_at, unnest(sqlc.arg(call_id)::uuid[]) as call_id) as u
on c.start_at = u.start_at and c.call_id = u.call_id;

-- name: LogPositions :many
select epoch, generation, byte from log_positions where gateway = $1;

-- name: SetLogPosition :exec
insert into log_positions (gateway, epoch, generation, byte) values ($1, $2, $3, $4)
on conflict (gateway, epoch) do update set generation = excluded.generation, byte = excluded.byte, updated_at = now();

-- name: DeleteLogPositions :exec
delete from log_positions where gateway = sqlc.arg(gateway) and epoch = any (sqlc.arg(epochs)::text[]);

-- name: InsertUnknownLine :exec
insert into unknown_lines (gateway, epoch, generation, byte, line) values ($1, $2, $3, $4, $5) on conflict do nothing;

-- name: Call :one
select * from calls where start_at = $1 and call_id = $2;

-- name: Attempts :many
select * from attempts where start_at = $1 and call_id = $2 order by attempt;

-- name: Meters :many
select attempt, meter, quantity, estimated, cost, price_version from meters where start_at = $1 and call_id = $2 order by attempt, meter;
