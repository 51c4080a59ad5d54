-- name: LoadProjects :many
select id, team_id, name from projects where deleted_at is null order by id;

-- name: LoadAPIKeys :many
select k.id, k.project_id, k.profile_id, k.member_id, coalesce(m.role, k.role)::text as role, k.hash, k.expires_at, k.revoked_at,
    k.previous_hash, k.previous_expires_at, k.allowed_apis, k.allowed_models, k.allowed_cidrs
from api_keys k
join projects p on p.id = k.project_id and p.deleted_at is null
left join members m on m.id = k.member_id
where k.deleted_at is null and m.deleted_at is null order by k.id;

-- name: LoadProfiles :many
select f.id, f.project_id, f.name, f.passthrough
from profiles f join projects p on p.id = f.project_id and p.deleted_at is null
where f.deleted_at is null order by f.id;

-- name: LoadProfileProviders :many
select g.profile_id, g.provider_id, g.credential_id
from profile_providers g
join providers p on p.id = g.provider_id and p.deleted_at is null
left join credentials c on c.id = g.credential_id
where c.deleted_at is null order by g.position;

-- name: LoadProfileModels :many
select g.profile_id, g.model_id
from profile_models g join models m on m.id = g.model_id and m.deleted_at is null
order by g.id;

-- name: LoadProviders :many
select id, name, base_url, dialect, auth_header, auth_format from providers where deleted_at is null order by id;

-- name: LoadCredentials :many
select c.id, c.provider_id, c.name, c.key_id, c.data_key, c.secret
from credentials c join providers p on p.id = c.provider_id and p.deleted_at is null
where c.deleted_at is null order by c.id;

-- name: LoadModels :many
select id, name, endpoint from models where deleted_at is null order by id;

-- name: LoadDeployments :many
select d.id, d.model_id, d.provider_id, c.id as credential_id, d.provider_model, d.endpoint, d.apis, d.include_usage, d.max_parallel
from deployments d
join models m on m.id = d.model_id and m.deleted_at is null
join providers p on p.id = d.provider_id and p.deleted_at is null
left join credentials c on c.id = d.credential_id and c.deleted_at is null
where d.deleted_at is null order by d.id;

-- name: LoadEgress :one
select egress_hosts, egress_cidrs from settings;
