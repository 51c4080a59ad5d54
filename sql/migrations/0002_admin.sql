-- What the admin API needs beside the set-up calls. The program of the release before works on it: it reads
-- and writes the columns that it knows, and the defaults and triggers below do the rest.

-- Names become what a declaration refers to, so each is unique where it is looked up. A provider whose name
-- another has already, under another base URL, is told apart by that URL.
update providers p set name = left(p.name, 120) || ' (' || left(p.base_url, 130) || ')'
where p.deleted_at is null
  and exists (select from providers q where q.name = p.name and q.deleted_at is null and q.id < p.id);
create unique index providers_unique_name on providers (name) where deleted_at is null;

-- Numbers go on where those end that are there: of a database that was at this version before.
create sequence credential_names;
select setval('credential_names', (select coalesce(max(substring(name from '^credential-([0-9]{1,15})$')::bigint), 0) + 1 from credentials), false);
alter table credentials alter column name set default 'credential-' || nextval('credential_names');
update credentials set name = default where name = '';
create unique index credentials_name on credentials (provider_id, name) where deleted_at is null;

-- Several deployments of one model at one provider: with other credentials, tiers or capacities.
alter table deployments add column name text not null default '' check (octet_length(name) <= 256);
drop index deployments_pair;
create unique index deployments_name on deployments (model_id, provider_id, name) where deleted_at is null;

alter table teams
    add column member_key_limit integer not null default 5 check (member_key_limit >= 0), -- keys that each member may make
    add column member_key_max_age_s bigint not null default 31536000 check (member_key_max_age_s > 0); -- seconds; of a key that a member makes

create table members (
    id         bigint generated always as identity primary key,
    public_id  uuid not null default gen_random_uuid() unique,
    team_id    bigint references teams, -- null: of the whole installation
    email      text not null check (email <> '' and octet_length(email) <= 256),
    name       text not null default '' check (octet_length(name) <= 256),
    role       text not null check (role in ('admin', 'team_owner', 'member', 'viewer')),
    labels     jsonb not null default '{}',
    revision   bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index members_email on members (lower(email)) where deleted_at is null;
create index members_team on members (team_id, id);

create sequence api_key_names;
select setval('api_key_names', (select coalesce(max(substring(name from '^key-([0-9]{1,15})$')::bigint), 0) + 1 from api_keys), false);
alter table api_keys
    drop constraint api_keys_role_check,
    add constraint api_keys_role_check check (role in ('root', 'admin', 'team_owner', 'member', 'viewer', 'service')),
    add column member_id bigint references members,           -- whose key it is: then its member's role counts; null: a program's
    add column prefix text not null default '',               -- the first characters, to tell keys apart
    add column hash_kind text not null default 'secret' check (hash_kind in ('secret', 'sha256')), -- what was hashed: the secret, or its SHA-256
    add column previous_hash bytea,                           -- of the secret before the last rotation
    add column previous_hash_kind text not null default 'secret' check (previous_hash_kind in ('secret', 'sha256')),
    add column previous_expires_at timestamptz,               -- until when that one works
    add constraint api_keys_previous check ((previous_hash is null) = (previous_expires_at is null)),
    add column allowed_apis text[] not null default '{}',     -- empty: all
    add column allowed_models bigint[] not null default '{}', -- empty: all that the profile grants
    add column allowed_cidrs text[] not null default '{}',    -- source addresses; empty: all
    add column claim_hash bytea unique,                       -- of the one-time link that hands the secret over
    add column claim_expires_at timestamptz,
    add column last_used_at timestamptz,
    alter column name set default 'key-' || nextval('api_key_names'),
    drop constraint api_keys_hash_key; -- an imported secret may come again after its key was deleted
alter table api_keys set (fillfactor = 85); -- room beside each row, so that noting its last use touches no index
create unique index api_keys_hash on api_keys (hash) where deleted_at is null;
create unique index api_keys_previous_hash on api_keys (previous_hash) where deleted_at is null;
update api_keys set name = default where name = '';
-- Keys that were made to call models go on to do that alone; a member may make keys now.
update api_keys set role = 'service' where role = 'member';
create index api_keys_name on api_keys (project_id, name);
create index api_keys_member on api_keys (member_id) where member_id is not null;

-- A change of what a profile grants is a change of the profile, whoever makes it.
create function profile_touched() returns trigger language plpgsql as $$
begin
    update profiles set revision = (select revision from config_revision), updated_at = now()
    where id = coalesce(new.profile_id, old.profile_id);
    return null;
end $$;
create trigger profile_touched after insert or update or delete on profile_providers for each row execute function profile_touched();
create trigger profile_touched after insert or update or delete on profile_models for each row execute function profile_touched();

-- Changes since a revision are read by these; lists by their order and their usual filters.
create index teams_revision on teams (revision);
create index projects_revision on projects (revision);
create index projects_team on projects (team_id, id);
create index members_revision on members (revision);
create index profiles_revision on profiles (revision);
create index api_keys_revision on api_keys (revision);
create index api_keys_project on api_keys (project_id, id);
create index providers_revision on providers (revision);
create index credentials_revision on credentials (revision);
create index models_revision on models (revision);
create index deployments_revision on deployments (revision);
create index deployments_provider on deployments (provider_id, id);
create index deployments_credential on deployments (credential_id) where credential_id is not null;
create index profile_models_model on profile_models (model_id);
create index profile_providers_provider on profile_providers (provider_id);
create index calls_project on calls (project_id, start_at desc);
create index calls_start on calls (start_at desc, call_id desc);

-- Settings of the whole installation, changed live.
create table settings (
    only_one                    boolean primary key default true check (only_one),
    egress_hosts                text[] not null default '{}', -- hosts that providers may be at though their addresses are private; "*.example.org" matches below; root's set-up calls add theirs
    egress_cidrs                text[] not null default '{}', -- private ranges that providers may be in
    call_retention_days         integer not null default 0 check (call_retention_days >= 0),  -- of calls, attempts and meters; 0: for ever
    audit_retention_days        integer not null default 0 check (audit_retention_days >= 0), -- 0: for ever
    unknown_line_retention_days integer not null default 30 check (unknown_line_retention_days >= 0),
    claim_lifetime_s            bigint not null default 604800 check (claim_lifetime_s > 0),  -- seconds; of the links that hand keys over
    revision                    bigint not null default 0,
    updated_at                  timestamptz not null default now()
);
insert into settings default values;

-- Providers that are there were added by root, whose word allows their hosts.
update settings set egress_hosts = coalesce((
    select array_agg(distinct lower(rtrim(trim(both '[]' from substring(base_url from '^[^:]+://(\[[^]]*\]|[^]:/?#[]+)')), '.')))
    from providers where deleted_at is null and base_url ~ '^[^:]+://(\[[^]]+\]|[^]:/?#[]+)'), '{}');

-- Every change is one event, written in its transaction.
create table audit_events (
    id          bigint generated always as identity primary key,
    at          timestamptz not null default now(),
    revision    bigint not null,
    method      text not null,              -- e.g. CreateProject, or the name of a set-up call
    kind        text not null,              -- of the resource, e.g. project
    resource_id bigint not null,
    team_id     bigint,                     -- of the resource, where it has one
    project_id  bigint,
    api_key_id  bigint,                     -- who did it; null: the gateway itself
    member_id   bigint,
    role        text not null default '',
    source      text not null default '',   -- address
    request_id  text not null default '',
    before      jsonb,                      -- null: created
    after       jsonb                       -- null: deleted
);
create index audit_events_at on audit_events (at desc, id desc);
create index audit_events_resource on audit_events (kind, resource_id, id desc);
create index audit_events_team on audit_events (team_id, id desc);

-- Nobody edits them. Retention and erasure, which the program does on purpose, say so in their transaction.
create function audit_is_append_only() returns trigger language plpgsql as $$
begin
    if coalesce(current_setting('logos.erasing', true), '') <> 'on' then
        raise exception 'audit events are append-only';
    end if;
    if tg_level = 'STATEMENT' then
        return null;
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger audit_is_append_only before update or delete on audit_events for each row execute function audit_is_append_only();
create trigger audit_is_not_emptied before truncate on audit_events for each statement execute function audit_is_append_only();

-- Answers by request id, so that a repeated create changes nothing.
create table idempotent_requests (
    api_key_id bigint not null,
    request_id uuid not null,
    method     text not null,
    digest     bytea not null, -- of the request
    response   bytea not null, -- without secrets
    at         timestamptz not null default now(),
    primary key (api_key_id, request_id)
);
create index idempotent_requests_at on idempotent_requests (at);
