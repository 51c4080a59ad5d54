-- name: APIKeyState :one
select hash, expires_at, revoked_at from api_keys where id = $1 and deleted_at is null;

-- name: ClaimedAPIKey :one
select k.id, k.expires_at, k.claim_expires_at
from api_keys k join projects p on p.id = k.project_id and p.deleted_at is null
where k.claim_hash = $1 and k.deleted_at is null;

-- name: ReplaceAPIKeySecret :exec
update api_keys set
    previous_hash = case when sqlc.narg(previous_expires_at)::timestamptz is not null then hash end,
    previous_hash_kind = case when sqlc.narg(previous_expires_at)::timestamptz is not null then hash_kind else 'secret' end,
    previous_expires_at = sqlc.narg(previous_expires_at),
    hash = sqlc.arg(hash), hash_kind = 'secret', prefix = sqlc.arg(prefix), hint = sqlc.arg(hint),
    claim_hash = null, claim_expires_at = null, revision = sqlc.arg(revision), updated_at = now()
where id = sqlc.arg(id);

-- name: RevokeAPIKey :exec
update api_keys set revoked_at = coalesce(revoked_at, now()), claim_hash = null, claim_expires_at = null, revision = $2, updated_at = now()
where id = $1 and deleted_at is null;

-- name: MemberKeys :one
select (select count(*) from api_keys k where k.member_id = m.id and k.deleted_at is null and k.revoked_at is null
        and (k.expires_at is null or k.expires_at > now())) as has,
    t.member_key_limit, t.member_key_max_age_s
from members m join teams t on t.id = m.team_id where m.id = $1 and m.deleted_at is null;

-- name: KeyNameTaken :one
select exists (select from api_keys where project_id = $1 and name = $2 and id <> $3 and deleted_at is null and revoked_at is null
    and (expires_at is null or expires_at > now()));

-- name: KeySecretTaken :one
select exists (select from api_keys k where (k.hash = any (sqlc.arg(hashes)::bytea[]) or k.previous_hash = any (sqlc.arg(hashes)::bytea[]))
    and k.deleted_at is null);
