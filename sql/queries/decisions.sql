-- name: DecisionNames :many
select 'model'::text as kind, id, name, ''::text as provider, ''::text as model from models where id = any (sqlc.arg(models)::bigint[])
union all select 'provider', id, name, '', '' from providers where id = any (sqlc.arg(providers)::bigint[])
union all select 'policy', id, name, '', '' from policies where id = any (sqlc.arg(policies)::bigint[])
union all select 'deployment', d.id, d.name, p.name, m.name
from deployments d join providers p on p.id = d.provider_id join models m on m.id = d.model_id where d.id = any (sqlc.arg(deployments)::bigint[]);
