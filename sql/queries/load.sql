-- The rows that a revision after "since" has changed, those deleted included; all that are there, where
-- "since" is below 0. They are not joined: a parent that goes changes nothing in its children's rows, and
-- the compiler leaves out what hangs on it.

-- name: ChangedTeams :many
select id, name, nullif(labels, '{}')::jsonb as labels, (deleted_at is not null)::boolean as gone
from teams where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedProjects :many
select id, team_id, name, nullif(labels, '{}')::jsonb as labels, (deleted_at is not null)::boolean as gone
from projects where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedMembers :many
select id, role, (deleted_at is not null)::boolean as gone
from members where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedAPIKeys :many
select id, project_id, profile_id, member_id, name, nullif(labels, '{}')::jsonb as labels, role, hash, expires_at, revoked_at,
    'sha256' in (hash_kind, previous_hash_kind) as digest, previous_hash, previous_expires_at, allowed_apis, allowed_models, allowed_cidrs, (deleted_at is not null)::boolean as gone
from api_keys where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: LoadAPIKey :one
select k.id, k.project_id, k.profile_id, k.member_id, k.name, nullif(k.labels, '{}')::jsonb as labels, coalesce(m.role, k.role)::text as role, k.hash, k.expires_at, k.revoked_at,
    'sha256' in (k.hash_kind, k.previous_hash_kind) as digest, k.previous_hash, k.previous_expires_at, k.allowed_apis, k.allowed_models, k.allowed_cidrs, false as gone
from api_keys k left join members m on m.id = k.member_id
where k.id = $1 and k.deleted_at is null;

-- name: ChangedProfiles :many
select id, project_id, name, passthrough, (deleted_at is not null)::boolean as gone
from profiles where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedProfileProviders :many
select g.profile_id, g.provider_id, g.credential_id
from profile_providers g join profiles f on f.id = g.profile_id
where f.revision > sqlc.arg(since) and f.deleted_at is null order by g.position;

-- name: ChangedProfileModels :many
select g.profile_id, g.model_id
from profile_models g join profiles f on f.id = g.profile_id
where f.revision > sqlc.arg(since) and f.deleted_at is null order by g.id;

-- name: ChangedProviders :many
select id, name, base_url, dialect, auth_header, auth_format, privacy_zone, nullif(labels, '{}')::jsonb as labels, (deleted_at is not null)::boolean as gone
from providers where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedCredentials :many
select id, provider_id, name, key_id, data_key, secret, (deleted_at is not null)::boolean as gone
from credentials where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedModels :many
select id, name, endpoint, capabilities, context_window, max_output_tokens, quality, accuracy, nullif(task_quality, '{}')::jsonb as task_quality,
    nullif(task_accuracy, '{}')::jsonb as task_accuracy, nullif(labels, '{}')::jsonb as labels, (deleted_at is not null)::boolean as gone
from models where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedDeployments :many
select id, model_id, provider_id, credential_id, provider_model, endpoint, apis, include_usage, max_parallel, drained, nullif(labels, '{}')::jsonb as labels, (deleted_at is not null)::boolean as gone
from deployments where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: ChangedPolicies :many
select id, name, level, coalesce(team_id, project_id, profile_id, api_key_id, 0)::bigint as owner, on_request, spec, nullif(labels, '{}')::jsonb as labels,
    revision, (deleted_at is not null)::boolean as gone
from policies where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);

-- name: LoadSettings :one
select egress_hosts, egress_cidrs, task_matchers from settings;

-- name: ChangedPrices :many
select id, version, provider_id, deployment_id, model_id, provider_model, meter, amount, unit, currency, service_tier, context_from, context_to,
    valid_from, valid_to, source, imported_at, updated_at, (deleted_at is not null)::boolean as gone
from prices where revision > sqlc.arg(since) and (deleted_at is null or sqlc.arg(since) >= 0);
