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

-- name: RotateInstance :exec
update instance set key_id = $1, hash_key = $2;

-- name: CredentialsOfOtherKeys :many
select id, key_id, data_key from credentials where key_id <> $1 order by id;

-- name: RewrapCredentials :exec
update credentials c set key_id = sqlc.arg(key_id)::text, data_key = u.data_key, revision = (select revision from config_revision)
from (select unnest(sqlc.arg(id)::bigint[]) as id, unnest(sqlc.arg(data_key)::bytea[]) as data_key) as u where c.id = u.id;
