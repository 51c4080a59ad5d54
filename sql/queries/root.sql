-- name: RootKeyLeft :one
select exists (select from api_keys k join projects p on p.id = k.project_id and p.deleted_at is null
    where k.role = 'root' and k.member_id is null and k.revoked_at is null and k.deleted_at is null and k.claim_hash is null and k.expires_at is null);
