-- name: CreateInstance :exec
insert into instance (key_id, hash_key) values ($1, $2) on conflict do nothing;

-- name: Instance :one
select key_id, hash_key, set_up_at from instance;

-- name: MarkSetUp :execrows
update instance set set_up_at = now() where set_up_at is null;

-- name: Revision :one
select revision, changed_at from config_revision;

-- name: NextRevision :one
update config_revision set revision = revision + 1, changed_at = clock_timestamp() returning revision;

-- name: Notify :exec
select pg_notify('logos_config', sqlc.arg(revision)::text);
