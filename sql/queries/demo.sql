-- name: Demo :one
select j.id as project_id, p.id as provider_id, p.base_url
from projects j
join profiles f on f.project_id = j.id and f.deleted_at is null
join profile_providers g on g.profile_id = f.id
join providers p on p.id = g.provider_id and p.deleted_at is null
where j.demo and j.deleted_at is null order by j.id, p.id limit 1;

-- name: SetProviderURL :exec
update providers set base_url = $2, revision = $3, updated_at = now() where id = $1;

-- name: HasProjectKey :one
select exists (select from api_keys where project_id = $1 and hash = $2 and revoked_at is null and deleted_at is null);
