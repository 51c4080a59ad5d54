-- name: InsertProject :one
insert into projects (name, demo, revision) values ($1, $2, $3) returning id;

-- name: ProjectExists :one
select exists (select from projects where id = $1 and deleted_at is null);

-- name: InsertProfile :one
insert into profiles (project_id, name, passthrough, revision) values ($1, $2, $3, $4) returning id;

-- name: ProfileProject :one
select project_id from profiles where id = $1 and deleted_at is null;

-- name: APIKeyByHash :one
select k.id, k.project_id, p.team_id as project_team_id, k.member_id, m.team_id as member_team_id, coalesce(m.role, k.role)::text as role,
    k.hash, k.hash = any (sqlc.arg(hashes)::bytea[]) as present, k.expires_at, k.previous_hash, k.previous_expires_at, k.revoked_at
from api_keys k
join projects p on p.id = k.project_id and p.deleted_at is null
left join members m on m.id = k.member_id
where (k.hash = any (sqlc.arg(hashes)::bytea[]) or k.previous_hash = any (sqlc.arg(hashes)::bytea[])) and k.deleted_at is null and m.deleted_at is null
order by present desc, k.hash_kind limit 1;

-- name: PrincipalNames :one
select coalesce((select p.name from projects p where p.id = sqlc.arg(project_id)), '')::text as project,
    coalesce((select t.name from teams t where t.id = sqlc.arg(team_id)), '')::text as team,
    coalesce((select m.email from members m where m.id = sqlc.arg(member_id)), '')::text as email;

-- name: InsertProvider :one
insert into providers (name, base_url, dialect, auth_header, auth_format, revision)
values ($1, $2, $3, $4, $5, $6) returning id;

-- name: ProviderByName :one
select id, auth_header, auth_format from providers where name = $1 and base_url = $2 and deleted_at is null;

-- name: SetProviderAuth :exec
update providers set auth_header = $2, auth_format = $3, revision = $4, updated_at = now() where id = $1;

-- name: ProviderExists :one
select exists (select from providers where id = $1 and deleted_at is null);

-- name: InsertCredential :one
insert into credentials (provider_id, key_id, data_key, secret, hash, revision)
values ($1, $2, $3, $4, $5, $6) returning id;

-- name: CredentialByHash :one
select id from credentials where provider_id = $1 and hash = $2 and deleted_at is null;

-- name: CredentialsByHash :many
select id from credentials where hash = $1 and deleted_at is null order by id;

-- name: CredentialProvider :one
select provider_id from credentials where id = $1 and deleted_at is null;

-- name: InsertModel :one
insert into models (name, endpoint, revision) values ($1, $2, $3) returning id;

-- name: ModelExists :one
select exists (select from models where id = $1 and deleted_at is null);

-- name: InsertDeployment :one
insert into deployments (model_id, provider_id, provider_model, revision) values ($1, $2, $3, $4) returning id;

-- name: DeploymentByPair :one
select id from deployments where model_id = $1 and provider_id = $2 and deleted_at is null order by id limit 1;

-- name: SetDeploymentCredential :exec
update deployments set credential_id = $2, revision = $3, updated_at = now() where id = $1 and credential_id is distinct from $2;

-- name: GrantProvider :exec
insert into profile_providers (profile_id, provider_id, credential_id) values ($1, $2, $3) on conflict do nothing;

-- name: GrantModel :one
with added as (insert into profile_models (profile_id, model_id) values ($1, $2) on conflict do nothing returning id)
select id from added union all select id from profile_models where profile_id = $1 and model_id = $2;

-- name: ProjectHasModels :one
select exists (select from profile_models g join profiles f on f.id = g.profile_id
               where f.project_id = $1 and f.deleted_at is null);

-- name: AllowEgressHost :exec
update settings set egress_hosts = array_append(egress_hosts, sqlc.arg(host)::text), revision = sqlc.arg(revision), updated_at = now()
where sqlc.arg(host)::text <> all (egress_hosts);

-- name: StandingPolicies :one
select count(*) from policies where level = @level and coalesce(team_id, project_id, profile_id, api_key_id, 0) = @owner::bigint
    and not on_request and deleted_at is null;

-- name: PolicySpec :one
select spec from policies where id = $1;
