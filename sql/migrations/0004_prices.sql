-- What calls cost. The program of the release before works on it: it knows no prices, and the new column is
-- null where it writes.

create table prices (
    id             bigint generated always as identity primary key,
    public_id      uuid not null default gen_random_uuid() unique,
    name           text not null check (name <> '' and octet_length(name) <= 256),
    provider_id    bigint not null references providers,
    deployment_id  bigint references deployments,          -- of all three at most one; without, it is of the whole provider
    model_id       bigint references models,
    provider_model text not null default '',
    meter          text not null,
    amount         numeric not null check (amount >= 0),   -- for so many of the meter:
    unit           bigint not null check (unit in (1, 1000, 1000000)),
    currency       text not null check (currency ~ '^[A-Z]{3}$'),
    service_tier   text not null default '',               -- empty: any
    context_from   bigint not null default 0 check (context_from >= 0),  -- tokens of the prompt, both included
    context_to     bigint not null default 0 check (context_to = 0 or context_to >= context_from), -- 0: no bound
    valid_from     timestamptz,                            -- of the start of a call; null: always was
    valid_to       timestamptz,                            -- excluded; null: open
    source         text not null default '',               -- the catalogue; empty: an operator, who counts more
    imported_at    timestamptz,                            -- null: not
    version        bigint not null default 0,              -- the latest in price_versions
    labels         jsonb not null default '{}',
    revision       bigint not null,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    deleted_at     timestamptz,
    constraint prices_of_one check (num_nonnulls(deployment_id, model_id, nullif(provider_model, '')) <= 1),
    constraint prices_in_time check (valid_to > valid_from)
);
create unique index prices_name on prices (name) where deleted_at is null;
-- Two that nothing tells apart would leave it open which one holds.
create unique index prices_same on prices (provider_id, deployment_id, model_id, provider_model, meter, service_tier, context_from, context_to, valid_from, (source = ''))
    nulls not distinct where deleted_at is null;
create index prices_revision on prices (revision);
create index prices_deployment on prices (deployment_id) where deployment_id is not null;
create index prices_model on prices (model_id) where model_id is not null;

-- All that was ever believed of any price, as its row was: charges name the version that they were made by. What
-- was believed at a moment is, of each price, the last version recorded until then, unless that one is deleted.
create table price_versions (
    version     bigint generated always as identity primary key,
    price_id    bigint not null, -- no reference, as its row may not be there yet
    recorded_at timestamptz not null default clock_timestamp(),
    document    jsonb not null
);
create index price_versions_price on price_versions (price_id, version);

-- A trigger, so that no change is missed, whoever makes it. Names and labels say nothing of the price.
create function keep_price_version() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and to_jsonb(new) - '{version,revision,updated_at,name,labels}'::text[] = to_jsonb(old) - '{version,revision,updated_at,name,labels}'::text[] then
        return new;
    end if;
    insert into price_versions (price_id, document) values (new.id, to_jsonb(new)) returning version into new.version;
    return new;
end $$;
create trigger keep_price_version before insert or update on prices for each row execute function keep_price_version();

-- Nobody edits them.
create function price_versions_are_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'versions of prices are append-only';
end $$;
create trigger price_versions_are_append_only before update or delete or truncate on price_versions
    for each statement execute function price_versions_are_append_only();

alter table meters add column price_version bigint; -- null: unknown; attempts have the latest of theirs
