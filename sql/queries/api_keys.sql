-- name: KeyHash :one
select hash from api_keys where id = $1;

-- name: ClaimableKey :one
select k.id from api_keys k join projects p on p.id = k.project_id and p.deleted_at is null
where k.claim_hash = $1 and k.claim_expires_at > now() and k.deleted_at is null and k.revoked_at is null
    and (k.expires_at is null or k.expires_at > now());

-- name: MemberKeys :one
select (select count(*) from api_keys k where k.member_id = m.id and k.deleted_at is null and k.revoked_at is null
        and (k.expires_at is null or k.expires_at > now())) as has,
    t.member_key_limit, t.member_key_max_age_s
from members m join teams t on t.id = m.team_id where m.id = $1 and m.deleted_at is null;

-- name: KeyNameTaken :one
select exists (select from api_keys where project_id = $1 and name = $2 and id <> $3 and deleted_at is null and revoked_at is null
    and (expires_at is null or expires_at > now()));
