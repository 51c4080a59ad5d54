-- name: EraseEndUser :many
with batch as (
    select c.start_at, c.call_id from calls c
    where c.project_id = sqlc.arg(project_id) and c.end_user = sqlc.arg(end_user) and c.start_at >= sqlc.arg(since)
    order by c.start_at limit sqlc.arg(most)
)
-- What it held of a counter of its own stays, without saying whose.
update calls set end_user = '', session = '', decision = calls.decision - 'u' - 'se' || case when calls.decision ? 'bu' then
    jsonb_build_object('bu', (select coalesce(jsonb_agg(case when r->>'k' = 'end_user:' || calls.end_user then r - 'k' else r end order by n), '[]') from jsonb_array_elements(calls.decision->'bu') with ordinality u (r, n))) else '{}' end
from batch where calls.start_at = batch.start_at and calls.call_id = batch.call_id returning calls.start_at;

-- name: EraseUnknownLines :exec
delete from unknown_lines where position(sqlc.arg(text)::bytea in line) > 0;

-- name: EraseCounters :exec
-- What the end user has left of budgets begins anew; who is erased has no calls under way.
with gone as (delete from budget_shares where each_key = sqlc.arg(each_key)::text)
delete from budget_counters where each_key = sqlc.arg(each_key)::text;

-- name: EraseSource :many
update audit_events set source = ''
where id in (select e.id from audit_events e where e.source = any (sqlc.arg(sources)::text[]) and e.id > sqlc.arg(after) order by e.id limit sqlc.arg(most))
returning id;

-- name: AuditErasure :exec
insert into audit_events (api_key_id, member_id, role, source, request_id, revision, method, kind, resource_id, project_id, team_id, after)
select nullif(sqlc.arg(api_key_id)::bigint, 0), nullif(sqlc.arg(member_id)::bigint, 0), sqlc.arg(role)::text, sqlc.arg(source)::text, sqlc.arg(request_id)::text, revision, sqlc.arg(method)::text, sqlc.arg(kind)::text, sqlc.arg(resource_id)::bigint, sqlc.narg(project_id)::bigint,
    (select team_id from projects p where p.id = sqlc.narg(project_id)::bigint), jsonb_build_object('erased', sqlc.arg(erased)::bigint)
from config_revision;
