-- name: InsertAPIKey :one
insert into api_keys (project_id, profile_id, member_id, role, name, hash, hash_kind, prefix, hint, expires_at,
    allowed_apis, allowed_models, allowed_cidrs, labels, claim_hash, claim_expires_at, revision)
values (sqlc.arg(project_id), sqlc.narg(profile_id), sqlc.narg(member_id), sqlc.arg(role),
    coalesce(nullif(sqlc.arg(name)::text, ''), 'key-' || nextval('api_key_names')), sqlc.arg(hash), sqlc.arg(hash_kind), sqlc.arg(prefix), sqlc.arg(hint), sqlc.narg(expires_at),
    sqlc.arg(allowed_apis), sqlc.arg(allowed_models), sqlc.arg(allowed_cidrs), sqlc.arg(labels), sqlc.narg(claim_hash), sqlc.narg(claim_expires_at), sqlc.arg(revision))
returning id;

-- name: CheckAPIKey :one
select
    exists (select from projects where projects.id = sqlc.arg(project_id) and deleted_at is null) as has_project,
    exists (select from profiles where profiles.id = sqlc.arg(profile_id)::bigint and profiles.project_id = sqlc.arg(project_id) and deleted_at is null) as has_profile,
    exists (select from members where members.id = sqlc.arg(member_id)::bigint and deleted_at is null) as has_member,
    coalesce((select min(u.id) from unnest(sqlc.arg(model_ids)::bigint[]) as u (id)
        where not exists (select from models where models.id = u.id and deleted_at is null)), 0)::bigint as missing_model,
    exists (select from api_keys k where k.project_id = sqlc.arg(project_id) and k.name = sqlc.arg(name)
        and k.deleted_at is null and k.revoked_at is null and (k.expires_at is null or k.expires_at > now())) as has_name,
    exists (select from api_keys k where (k.hash = any (sqlc.arg(hashes)::bytea[]) or k.previous_hash = any (sqlc.arg(hashes)::bytea[]))
        and k.deleted_at is null) as has_secret;

-- name: APIKeyState :one
select expires_at, revoked_at from api_keys where id = $1 and deleted_at is null;

-- name: ReplaceAPIKeySecret :exec
update api_keys set
    previous_hash = case when sqlc.narg(previous_expires_at)::timestamptz is not null then hash end,
    previous_hash_kind = case when sqlc.narg(previous_expires_at)::timestamptz is not null then hash_kind else 'secret' end,
    previous_expires_at = sqlc.narg(previous_expires_at),
    hash = sqlc.arg(hash), hash_kind = 'secret', prefix = sqlc.arg(prefix), hint = sqlc.arg(hint),
    claim_hash = null, claim_expires_at = null, revision = sqlc.arg(revision), updated_at = now()
where id = sqlc.arg(id);

-- name: RevokeAPIKey :execrows
update api_keys set revoked_at = coalesce(revoked_at, now()), claim_hash = null, claim_expires_at = null, revision = $2, updated_at = now()
where id = $1 and deleted_at is null;

-- name: DeleteAPIKey :execrows
update api_keys set deleted_at = now(), claim_hash = null, claim_expires_at = null, revision = $2, updated_at = now()
where id = $1 and deleted_at is null;

-- name: ClaimedAPIKey :one
select id, expires_at, claim_expires_at from api_keys where claim_hash = $1;
