-- name: Retention :one
select call_retention_days, audit_retention_days, unknown_line_retention_days from settings;

-- name: AllowErasing :exec
select set_config('logos.erasing', 'on', true);
