-- Budgets and limits. The program of the release before works on it: it knows none, refuses nothing for them, and
-- what its calls use does not count.

create table budgets (
    id               bigint generated always as identity primary key,
    public_id        uuid not null default gen_random_uuid() unique,
    name             text not null check (name <> '' and octet_length(name) <= 256),
    team_id          bigint references teams,             -- whose owners may change it, and whose calls alone it counts; null: the installation's
    -- Which calls it counts: each list that is not empty must hold the call's.
    team_ids         bigint[] not null default '{}',
    project_ids      bigint[] not null default '{}',
    api_key_ids      bigint[] not null default '{}',
    profile_ids      bigint[] not null default '{}',
    model_ids        bigint[] not null default '{}',
    provider_ids     bigint[] not null default '{}',
    end_users        text[] not null default '{}',        -- pseudonyms
    call_labels      jsonb not null default '{}',         -- all of them
    each             text not null default '' check (each in ('', 'end_user', 'api_key', 'member', 'project', 'team')), -- has a counter of its own
    unit             text not null check (unit in ('money', 'tokens', 'requests', 'parallel')),
    currency         text not null default '' check ((currency ~ '^[A-Z]{3}$') = (unit = 'money') and (currency = '') = (unit <> 'money')),
    amount           numeric not null check (amount >= 0 and amount <= 1000000000), -- in the unit
    "window"         text not null check ("window" in ('minute', 'hour', 'day', 'week', 'month', 'year', 'total')),
    time_zone        text not null default 'UTC',         -- in which windows begin
    hard             boolean not null,                    -- refuses; else it tells
    clamp_max_tokens boolean not null default false,      -- lowers max_tokens before it refuses
    thresholds       integer[] not null default '{}',     -- per cent, of which is told
    webhook_url      text not null default '',
    labels           jsonb not null default '{}',
    revision         bigint not null,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    deleted_at       timestamptz
);
create unique index budgets_name on budgets (name) where deleted_at is null;
create index budgets_revision on budgets (revision);
create index budgets_team on budgets (team_id, id);

-- One counter of a budget: that of one value of "each", in one window. Its row is locked while shares of it are
-- granted. No references, so that nothing that a call names can keep its record from being stored.
create table budget_counters (
    budget_id    bigint not null,
    window_start timestamptz not null,     -- 1970: the window has neither beginning nor end
    each_key     text not null,            -- like "project:7"; empty: there is one counter
    window_end   timestamptz,              -- null: none
    told         integer not null default 0, -- the threshold in per cent that was told of last
    primary key (budget_id, window_start, each_key)
);
create index budget_counters_end on budget_counters (window_end);

-- What each gateway may use of a counter, in billionths of money and ones of all else. Of all gateways together the
-- greater of granted and settled is never more than the limit, but for what providers charge beyond reservations.
create table budget_shares (
    budget_id    bigint not null,
    window_start timestamptz not null,
    each_key     text not null,
    gateway      text not null,
    window_end   timestamptz,
    epoch        bigint not null default 0, -- of the process that has it: an earlier one can't change it
    granted      bigint not null default 0,
    reserved     bigint not null default 0, -- by open calls, when last heard
    settled      bigint not null default 0, -- written with the records of the calls
    version      bigint not null default 0, -- grows with settled
    overrun      bigint not null default 0, -- settled beyond what was reserved
    overruns     bigint not null default 0, -- calls
    leased_until timestamptz not null default 'epoch', -- until when the gateway may reserve more
    held_until   timestamptz not null default 'epoch', -- until when what it was granted is kept, if no more is heard
    primary key (budget_id, window_start, each_key, gateway)
);
create index budget_shares_end on budget_shares (window_end);

-- The latest process of each gateway.
create table gateway_epochs (
    gateway text primary key,
    epoch   bigint not null
);
