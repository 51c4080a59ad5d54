-- What calls cost as a ledger: records that are never edited, adjustments that correct them, and totals by
-- hour. The program of the release before works on it: what it records is noted by a trigger, and added to the
-- totals by a newer program.

-- No writer is in the middle of a transaction that no trigger notes.
lock table calls in share row exclusive mode;

-- Each transaction's calls, or adjustments, in the order in which they are exported. The order is one that
-- readers can follow: whoever takes a number first locks the last one that was given, in shared mode, until its
-- transaction ends. So nothing is still to come up to the least number that is locked.
create sequence recordings_sequence;
select setval('recordings_sequence', 1); -- given, so that the first lock is below the first number

create table recordings (
    sequence    bigint primary key default nextval('recordings_sequence'),
    recorded_at timestamptz not null default now(),
    counted     boolean not null,       -- it is in usage_hours
    starts      timestamptz[] not null, -- of the calls
    calls       uuid[],                 -- null: adjustments
    adjustments bigint[]
);
create index recordings_at on recordings (recorded_at);
create index recordings_uncounted on recordings (sequence) where not counted;

create function note_recording() returns trigger language plpgsql as $$
declare
    counts boolean := coalesce(current_setting('logos.counts', true), '') = 'on'; -- the program adds to usage_hours itself
begin
    if not exists (select from added) then
        return null;
    end if;
    perform pg_advisory_xact_lock_shared((7106407::bigint << 40) + (select last_value from recordings_sequence));
    if tg_table_name = 'calls' then
        insert into recordings (counted, starts, calls) select counts, array_agg(start_at), array_agg(call_id) from added;
    else
        insert into recordings (counted, starts, adjustments) select counts, array_agg(start_at order by id), array_agg(id order by id) from added;
    end if;
    return null;
end $$;
create trigger note_recording after insert on calls referencing new table as added for each statement execute function note_recording();

-- Nobody edits what was used and what it costs. Retention and erasure say so in their transaction.
create function ledger_is_append_only() returns trigger language plpgsql as $$
begin
    if coalesce(current_setting('logos.erasing', true), '') <> 'on' then
        raise exception 'what calls used and cost is append-only: correct it by an adjustment';
    end if;
    if tg_level = 'STATEMENT' then
        return null;
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end $$;
create trigger cost_is_not_edited before update of cost, currency on calls for each row execute function ledger_is_append_only();
create trigger cost_is_not_edited before update of cost, currency, price_version on attempts for each row execute function ledger_is_append_only();
create trigger cost_is_not_edited before update of quantity, estimated, cost, price_version on meters for each row execute function ledger_is_append_only();

create sequence adjustments_id;
create table adjustments (
    start_at         timestamptz not null, -- of the call
    id               bigint not null default nextval('adjustments_id'),
    call_id          uuid not null,
    attempt          integer,              -- null: the call as a whole
    meter            text not null default '', -- empty: no single one
    kind             text not null check (kind in ('rerating', 'refund', 'correction')),
    amount           numeric not null,
    currency         text not null check (currency ~ '^[A-Z]{3}$'),
    makes_known      boolean not null default false, -- the meter had no price before
    price_version    bigint,
    reason           text not null default '' check (octet_length(reason) <= 1024),
    team_id          bigint,               -- of the call, like the next two
    project_id       bigint not null,
    api_key_id       bigint not null,
    author_key_id    bigint,               -- who made it; null: who may use the database
    author_member_id bigint,
    at               timestamptz not null default now(),
    primary key (start_at, id),
    constraint adjustments_of_attempt check (meter = '' or attempt is not null)
) partition by range (start_at);
create index adjustments_by_id on adjustments (id);
create index adjustments_call on adjustments (call_id);
create table adjustments_rest partition of adjustments default;
create trigger adjustments_are_append_only before update or delete on adjustments for each row execute function ledger_is_append_only();
create trigger adjustments_are_not_emptied before truncate on adjustments for each statement execute function ledger_is_append_only();
create trigger note_recording after insert on adjustments referencing new table as added for each statement execute function note_recording();

-- What totals are of. 0 and empty stand for none.
create table usage_series (
    id            bigint generated always as identity primary key,
    team_id       bigint not null,
    project_id    bigint not null,
    api_key_id    bigint not null,
    profile_id    bigint not null,
    model_id      bigint not null, -- of the attempt, as are the next two
    provider_id   bigint not null,
    deployment_id bigint not null,
    api           text not null,
    end_reason    text not null,   -- of the call
    service_tier  text not null,
    unique (team_id, project_id, api_key_id, profile_id, model_id, provider_id, deployment_id, api, end_reason, service_tier)
);

-- Totals by the hour in which calls began. A call counts where its last attempt belongs, an attempt and what it
-- used where that one does. Each gateway adds to rows of its own, so that none waits for another; those of past
-- hours become one. Of each meter: the quantity, how much of it is estimated, how much has no price, and what
-- it costs; null is 0, and takes no room. Quantities are numeric, since no sum of those may overflow.
create table usage_hours (
    hour      timestamptz not null,
    series_id bigint not null references usage_series,
    gateway   text not null, -- empty: all, of a past hour
    currency  text not null, -- empty: nothing was charged, or no price is known
    calls     bigint not null,
    attempts  bigint not null,
    unknown   bigint not null,  -- calls whose cost is not known
    cost      numeric not null, -- as far as it is known
    adjusted  numeric not null, -- the part of it that adjustments make
    first_at  timestamptz not null,
    last_at   timestamptz not null,
    input numeric, input_estimated numeric, input_unpriced numeric, input_cost numeric,
    cached_input numeric, cached_input_estimated numeric, cached_input_unpriced numeric, cached_input_cost numeric,
    cache_write numeric, cache_write_estimated numeric, cache_write_unpriced numeric, cache_write_cost numeric,
    cache_write_1h numeric, cache_write_1h_estimated numeric, cache_write_1h_unpriced numeric, cache_write_1h_cost numeric,
    audio_input numeric, audio_input_estimated numeric, audio_input_unpriced numeric, audio_input_cost numeric,
    output numeric, output_estimated numeric, output_unpriced numeric, output_cost numeric,
    reasoning numeric, reasoning_estimated numeric, reasoning_unpriced numeric, reasoning_cost numeric,
    audio_output numeric, audio_output_estimated numeric, audio_output_unpriced numeric, audio_output_cost numeric,
    image numeric, image_estimated numeric, image_unpriced numeric, image_cost numeric,
    request numeric, request_estimated numeric, request_unpriced numeric, request_cost numeric,
    primary key (hour, series_id, gateway, currency)
) with (fillfactor = 80); -- rows of the present hour change all the time
create index usage_hours_apart on usage_hours (hour) where gateway <> '';

-- The same by days in UTC, of what is folded in usage_hours: the rest of a day is in the rows of gateways there. So the
-- two together are exact at every moment.
create table usage_days (like usage_hours);
alter table usage_days drop column gateway;
alter table usage_days rename column hour to day;
alter table usage_days add primary key (day, series_id, currency), add foreign key (series_id) references usage_series;

-- Which meters there is anything of in usage_hours.
create table usage_meters (meter text primary key);

-- How far calls of before this version are added to the totals, and since when calls are still on record.
create table ledger_state (
    only_one     boolean primary key default true check (only_one),
    since        timestamptz not null, -- of this version
    counted_to   timestamptz not null, -- the last call that was added
    counted_id   uuid not null,
    counted      boolean not null,     -- all were
    records_from timestamptz not null default '0001-01-01Z' -- what began before was removed
);
insert into ledger_state (since, counted_to, counted_id, counted)
values (clock_timestamp(), '0001-01-01Z', '00000000-0000-0000-0000-000000000000', not exists (select from calls));
