-- Searches that providers make and charge are a meter. The program of the release before does not know it: it records none,
-- and must not fold rows that have some, since they would be lost.
alter table usage_hours add column web_search numeric, add column web_search_estimated numeric, add column web_search_unpriced numeric, add column web_search_cost numeric;
alter table usage_days add column web_search numeric, add column web_search_estimated numeric, add column web_search_unpriced numeric, add column web_search_cost numeric;
create function keep_searches() returns trigger language plpgsql as $$
begin
    return case when coalesce(current_setting('logos.folds_searches', true), '') = 'on' then old end; -- null: it stays
end $$;
create trigger keep_searches before delete on usage_hours for each row when (old.web_search is not null or old.web_search_cost is not null) execute function keep_searches();

-- Totals by hour of teams: without projects, API keys and profiles, which make most of the rows of usage_hours. They are worked
-- out of rows that are folded. The program of the release before works on it: a trigger notes what it folds.

-- Of series without project, API key and profile, which no call has.
create table usage_team_hours (like usage_hours);
alter table usage_team_hours drop column gateway;
alter table usage_team_hours add primary key (hour, series_id, currency), add foreign key (series_id) references usage_series;

-- Hours of which something was folded that usage_team_hours has not got: they are read from usage_hours.
create table usage_open_hours (hour timestamptz primary key);

create function open_hour() returns trigger language plpgsql as $$
begin
    insert into usage_open_hours values (new.hour) on conflict do nothing;
    return null;
end $$;
create trigger open_hour after insert or update on usage_hours for each row when (new.gateway = '') execute function open_hour();
insert into usage_open_hours select distinct hour from usage_hours where gateway = '';

-- The primary key has the same order, the other way round.
drop index calls_start;
