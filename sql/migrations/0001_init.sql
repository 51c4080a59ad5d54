-- The whole model of the first release. Ids are small integers, as the set-up API shows them; public ids
-- are for URLs and exports. Rows are deleted by setting deleted_at, so that records keep what they name.

create table instance (
    only_one     boolean primary key default true check (only_one),
    key_id       text not null,        -- of the master key that wraps the hash key and the data keys
    hash_key     bytea not null,       -- wrapped; keys the hashes of API keys and end users
    set_up_at    timestamptz,
    created_at   timestamptz not null default now()
);

create table config_revision (
    only_one   boolean primary key default true check (only_one),
    revision   bigint not null default 0,
    changed_at timestamptz not null default now()
);
insert into config_revision default values;

create table teams (
    id         bigint generated always as identity primary key,
    public_id  uuid not null default gen_random_uuid() unique,
    name       text not null check (name <> '' and octet_length(name) <= 256),
    labels     jsonb not null default '{}',
    revision   bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index teams_name on teams (name) where deleted_at is null;

create table projects (
    id         bigint generated always as identity primary key,
    public_id  uuid not null default gen_random_uuid() unique,
    team_id    bigint references teams,
    name       text not null check (name <> '' and octet_length(name) <= 256),
    demo       boolean not null default false,
    labels     jsonb not null default '{}',
    revision   bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);
create unique index projects_name on projects (name) where deleted_at is null;

create table profiles (
    id             bigint generated always as identity primary key,
    public_id      uuid not null default gen_random_uuid() unique,
    project_id     bigint not null references projects,
    name           text not null check (name <> '' and octet_length(name) <= 256),
    passthrough    boolean not null default true,
    default_policy text not null default '',
    labels         jsonb not null default '{}',
    revision       bigint not null,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    deleted_at     timestamptz
);
create unique index profiles_name on profiles (project_id, name) where deleted_at is null;

create table api_keys (
    id         bigint generated always as identity primary key,
    public_id  uuid not null default gen_random_uuid() unique,
    project_id bigint not null references projects,
    profile_id bigint references profiles, -- null: not bound to one
    role       text not null check (role in ('root', 'member')),
    name       text not null default '',
    hash       bytea not null unique,       -- keyed, see instance.hash_key
    hint       text not null default '',    -- the last characters, to tell keys apart
    labels     jsonb not null default '{}',
    revision   bigint not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz
);

create table providers (
    id           bigint generated always as identity primary key,
    public_id    uuid not null default gen_random_uuid() unique,
    name         text not null check (name <> '' and octet_length(name) <= 256),
    base_url     text not null,
    dialect      text not null check (dialect in ('openai', 'azure', 'anthropic', 'gemini', 'openai-compatible')),
    auth_header  text not null default '',
    auth_format  text not null default '{}',
    privacy_zone text not null default '',
    labels       jsonb not null default '{}',
    revision     bigint not null,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    deleted_at   timestamptz
);
create unique index providers_name on providers (name, base_url) where deleted_at is null;

create table credentials (
    id          bigint generated always as identity primary key,
    public_id   uuid not null default gen_random_uuid() unique,
    provider_id bigint not null references providers,
    name        text not null default '',
    key_id      text not null,  -- of the master key that wraps data_key
    data_key    bytea not null, -- wrapped; of this row alone
    secret      bytea not null, -- encrypted with data_key
    hash        bytea not null, -- keyed; finds a credential by its secret
    labels      jsonb not null default '{}',
    revision    bigint not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    deleted_at  timestamptz
);
create unique index credentials_hash on credentials (provider_id, hash) where deleted_at is null;

create table models (
    id             bigint generated always as identity primary key,
    public_id      uuid not null default gen_random_uuid() unique,
    name           text not null check (name <> '' and octet_length(name) <= 256),
    endpoint       text not null default '',
    capabilities   text[] not null default '{}',
    context_window bigint check (context_window > 0), -- tokens
    quality        double precision,                  -- declared, 0 to 1
    accuracy       double precision,                  -- declared, 0 to 1
    labels         jsonb not null default '{}',
    revision       bigint not null,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    deleted_at     timestamptz
);
create unique index models_name on models (name) where deleted_at is null;

create table deployments (
    id             bigint generated always as identity primary key,
    public_id      uuid not null default gen_random_uuid() unique,
    model_id       bigint not null references models,
    provider_id    bigint not null references providers,
    credential_id  bigint references credentials, -- null: the profile's
    provider_model text not null default '',      -- empty: the model's name
    endpoint       text not null default '',      -- empty: the model's
    apis           text[] not null default '{}',  -- served; empty: those of the provider's dialect
    include_usage  boolean not null default true, -- ask for usage in streams
    service_tier   text not null default '',
    max_parallel   integer not null default 0 check (max_parallel >= 0),        -- calls at once; 0: unlimited
    max_requests   bigint not null default 0 check (max_requests >= 0),         -- a minute; 0: unlimited
    max_tokens     bigint not null default 0 check (max_tokens >= 0),           -- a minute; 0: unlimited
    price_override bigint,                        -- a price of its own
    labels         jsonb not null default '{}',
    revision       bigint not null,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    deleted_at     timestamptz
);
create unique index deployments_pair on deployments (model_id, provider_id) where deleted_at is null;

-- What a profile may use. A grant without credential lets it pass calls through with the caller's own.
create table profile_providers (
    profile_id    bigint not null references profiles,
    provider_id   bigint not null references providers,
    credential_id bigint references credentials,
    position      bigint not null generated always as identity,
    unique nulls not distinct (profile_id, provider_id, credential_id)
);

create table profile_models (
    profile_id bigint not null references profiles,
    model_id   bigint not null references models,
    id         bigint not null generated always as identity unique,
    primary key (profile_id, model_id)
);

-- Calls and what belongs to them are partitioned by the start of the call, which every key begins with.
create table calls (
    start_at       timestamptz not null,
    call_id        uuid not null,           -- the x-request-id
    gateway        text not null,
    revision       bigint not null,         -- of the configuration that decided
    policy_version bigint,
    api            text not null,           -- empty: pass-through
    stream         boolean not null,
    model          text not null,           -- as the caller named it
    team_id        bigint,
    project_id     bigint not null,
    api_key_id     bigint not null,
    profile_id     bigint,
    end_user       text not null default '', -- pseudonym
    session        text not null default '',
    labels         jsonb not null default '{}',
    method         text not null default '',
    status         integer,                 -- null: unknown
    end_reason     text not null,
    duration_us    bigint not null,
    first_byte_us  bigint,
    queue_us       bigint not null default 0,
    request_bytes  bigint not null,
    answer_bytes   bigint not null,
    service_tier   text not null default '',
    error_code     text not null default '',
    error_type     text not null default '',
    error_message  text not null default '',
    decision       jsonb not null,
    reservation    numeric,                 -- null: none was made
    cost           numeric,                 -- null: unknown
    currency       text,
    settled_at     timestamptz not null default now(),
    primary key (start_at, call_id)
) partition by range (start_at);
create index calls_id on calls (call_id);
create table calls_rest partition of calls default;

create table attempts (
    start_at            timestamptz not null, -- of the call
    call_id             uuid not null,
    attempt             integer not null,     -- from 1
    deployment_id       bigint,               -- null: pass-through
    model_id            bigint,
    provider_id         bigint not null,
    credential_id       bigint,               -- null: the caller's own
    cluster             text not null,
    started_at          timestamptz not null,
    duration_us         bigint not null,
    status              integer,              -- null: no response
    end_reason          text not null,
    provider_request_id text not null default '',
    detail              text not null default '',
    service_tier        text not null default '',
    price_version       bigint,
    cost                numeric,              -- null: unknown
    currency            text,
    primary key (start_at, call_id, attempt)
) partition by range (start_at);
create table attempts_rest partition of attempts default;

create table meters (
    start_at  timestamptz not null, -- of the call
    call_id   uuid not null,
    attempt   integer not null,
    meter     text not null,
    quantity  bigint not null check (quantity >= 0),
    estimated boolean not null,
    cost      numeric,              -- null: unknown
    primary key (start_at, call_id, attempt, meter)
) partition by range (start_at);
create table meters_rest partition of meters default;

-- How far each gateway has stored its access log; written with what was read.
create table log_positions (
    gateway    text not null,
    epoch      text not null,
    generation bigint not null,
    byte       bigint not null, -- the first that is not stored yet
    updated_at timestamptz not null default now(),
    primary key (gateway, epoch)
);

create table unknown_lines (
    gateway    text not null,
    epoch      text not null,
    generation bigint not null,
    byte       bigint not null,
    line       bytea not null,
    read_at    timestamptz not null default now(),
    primary key (gateway, epoch, generation, byte)
);
