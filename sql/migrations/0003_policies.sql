-- Selection by policy. The program of the release before works on it: it has no policies, and the new columns
-- have defaults.

create table policies (
    id         bigint generated always as identity primary key,
    public_id  uuid not null default gen_random_uuid() unique,
    name       text not null check (name <> '' and octet_length(name) <= 256),
    level      text not null,
    team_id    bigint references teams,     -- the owner is that of the level; the installation has no row
    project_id bigint references projects,
    profile_id bigint references profiles,
    api_key_id bigint references api_keys,
    on_request boolean not null default false, -- applies only to calls that name it
    -- What it demands, see sql/policy.go. It names models, providers and deployments by id, which are never used
    -- again: what is deleted stays in its lists. Null is not allowed, so that absent and empty stay apart.
    spec       jsonb not null default '{}' check (jsonb_typeof(spec) = 'object' and not spec @? '$.** ? (@ == null)'),
    labels     jsonb not null default '{}',
    revision   bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    constraint policies_owner check (
        level in ('installation', 'team', 'project', 'access_profile', 'api_key')
        and (team_id is not null) = (level = 'team') and (project_id is not null) = (level = 'project')
        and (profile_id is not null) = (level = 'access_profile') and (api_key_id is not null) = (level = 'api_key'))
);
create unique index policies_name on policies (level, coalesce(team_id, project_id, profile_id, api_key_id, 0), name) where deleted_at is null;
create index policies_revision on policies (revision);

-- Every revision of every policy, as its row was when the transaction ended: decisions name both, and whoever
-- reads one later finds what it said.
create table policy_versions (
    policy_id bigint not null references policies,
    revision  bigint not null,
    document  jsonb not null,
    primary key (policy_id, revision)
);

-- A trigger, so that no change is missed, whoever makes it. It is deferred, so that of several changes in one
-- transaction there is one version, the last.
create function keep_policy_version() returns trigger language plpgsql as $$
begin
    insert into policy_versions (policy_id, revision, document)
    select p.id, p.revision, to_jsonb(p) from policies p where p.id = new.id
    on conflict do nothing;
    return null;
end $$;
create constraint trigger keep_policy_version after insert or update on policies
    deferrable initially deferred for each row execute function keep_policy_version();

-- Nobody edits them.
create function policy_versions_are_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'versions of policies are append-only';
end $$;
create trigger policy_versions_are_append_only before update or delete or truncate on policy_versions
    for each statement execute function policy_versions_are_append_only();

-- By task: declared, 0 to 1.
alter table models
    add column task_quality jsonb not null default '{}' check (jsonb_typeof(task_quality) = 'object'),
    add column task_accuracy jsonb not null default '{}' check (jsonb_typeof(task_accuracy) = 'object');

alter table deployments add column drained boolean not null default false; -- takes no further calls

-- What recognises tasks in requests: [{"name", "system", "keywords", "patterns"}].
alter table settings add column task_matchers jsonb not null default '[]' check (jsonb_typeof(task_matchers) = 'array');
