-- Of searches the records stay, which the program before does not know.
-- lost: prices of web searches | select count(*) from prices where meter = 'web_search' and deleted_at is null
-- lost: web searches in totals | select count(*) from usage_hours where web_search is not null

with next as (update config_revision set revision = revision + 1 where exists (select from prices where meter = 'web_search' and deleted_at is null) returning revision)
update prices set deleted_at = now(), revision = next.revision from next where meter = 'web_search' and deleted_at is null;

create index calls_start on calls (start_at desc, call_id desc);
drop trigger open_hour on usage_hours;
drop function open_hour;
drop trigger keep_searches on usage_hours;
drop function keep_searches;
alter table usage_hours drop column web_search, drop column web_search_estimated, drop column web_search_unpriced, drop column web_search_cost;
alter table usage_days drop column web_search, drop column web_search_estimated, drop column web_search_unpriced, drop column web_search_cost;
delete from usage_meters where meter = 'web_search';
drop table usage_team_hours, usage_open_hours;
delete from usage_series s where project_id = 0 and not exists (select from usage_hours where series_id = s.id) and not exists (select from usage_days where series_id = s.id);
