-- Back to what the set-up calls need. A key that version 1 could not hold to its limits is revoked, since it
-- would be allowed more there: one with scopes, a viewer's, one of a member that is gone, one that is known
-- by the digest of its secret.
-- lost: members | select count(*) from members
-- lost: audit events | select count(*) from audit_events
-- lost: changed settings | select count(*) from settings where revision > 0
-- lost: answers to requests that may be repeated | select count(*) from idempotent_requests
-- lost: teams with limits of their own for members' keys | select count(*) from teams where member_key_limit <> 5 or member_key_max_age_s <> 31536000
-- lost: second deployments of a model at a provider, which are deleted | select count(*) from deployments d where d.deleted_at is null and exists (select from deployments e where e.model_id = d.model_id and e.provider_id = d.provider_id and e.deleted_at is null and e.id < d.id)
-- lost: names of deployments | select count(*) from deployments where name <> ''
-- lost: API keys with limits that version 1 does not know, which are revoked | select count(*) from api_keys k left join members m on m.id = k.member_id where k.revoked_at is null and (k.allowed_apis <> '{}' or k.allowed_models <> '{}' or k.allowed_cidrs <> '{}' or k.hash_kind <> 'secret' or m.deleted_at is not null or coalesce(m.role, k.role) = 'viewer')
-- lost: roles of API keys, which become "member" | select count(*) from api_keys where role not in ('root', 'member', 'service')
-- lost: members' API keys, which become programs' | select count(*) from api_keys where member_id is not null
-- lost: secrets that still work beside their successor | select count(*) from api_keys where previous_expires_at > now()
-- lost: links that hand an API key over | select count(*) from api_keys where claim_expires_at > now()
-- lost: prefixes of API keys | select count(*) from api_keys where prefix <> ''
-- lost: times at which API keys were used last | select count(*) from api_keys where last_used_at is not null

update config_revision set revision = revision + 1, changed_at = clock_timestamp();
select pg_notify('logos_config', revision::text) from config_revision;

drop table idempotent_requests, audit_events, settings;
drop function audit_is_append_only;

drop index calls_start, calls_project;
drop index teams_revision, projects_revision, projects_team, profiles_revision, api_keys_revision, api_keys_project, providers_revision, credentials_revision,
    models_revision, deployments_revision, deployments_provider, deployments_credential, profile_models_model, profile_providers_provider;

drop trigger profile_touched on profile_providers;
drop trigger profile_touched on profile_models;
drop function profile_touched;

update api_keys k set revoked_at = now(), updated_at = now(), revision = (select revision from config_revision)
from api_keys x left join members m on m.id = x.member_id
where x.id = k.id and x.revoked_at is null and (x.allowed_apis <> '{}' or x.allowed_models <> '{}' or x.allowed_cidrs <> '{}' or x.hash_kind <> 'secret'
    or m.deleted_at is not null or coalesce(m.role, x.role) = 'viewer');
update api_keys set role = 'member' where role not in ('root', 'member');
drop index api_keys_name, api_keys_hash, api_keys_previous_hash;
-- A secret that came again after its key was deleted is the later key's alone.
update api_keys k set hash = sha256(hash || int8send(id))
where deleted_at is not null and exists (select from api_keys o where o.hash = k.hash and o.id <> k.id and (o.deleted_at is null or o.id < k.id));
alter table api_keys reset (fillfactor);
alter table api_keys
    add constraint api_keys_hash_key unique (hash),
    drop constraint api_keys_previous,
    drop column previous_hash_kind,
    drop constraint api_keys_role_check,
    add constraint api_keys_role_check check (role in ('root', 'member')),
    drop column member_id,
    drop column prefix,
    drop column hash_kind,
    drop column previous_hash,
    drop column previous_expires_at,
    drop column allowed_apis,
    drop column allowed_models,
    drop column allowed_cidrs,
    drop column claim_hash,
    drop column claim_expires_at,
    drop column last_used_at,
    alter column name set default '';
drop sequence api_key_names;
drop table members;

alter table teams drop column member_key_limit, drop column member_key_max_age_s;

drop index deployments_name;
update deployments d set deleted_at = now(), updated_at = now(), revision = (select revision from config_revision)
where d.deleted_at is null
  and exists (select from deployments e where e.model_id = d.model_id and e.provider_id = d.provider_id and e.deleted_at is null and e.id < d.id);
alter table deployments drop column name;
create unique index deployments_pair on deployments (model_id, provider_id) where deleted_at is null;

-- Names that were given stay.
drop index credentials_name;
alter table credentials alter column name set default '';
drop sequence credential_names;

drop index providers_unique_name;
