-- Nothing is lost: usage_hours has all of it.

create index calls_start on calls (start_at desc, call_id desc);
drop trigger open_hour on usage_hours;
drop function open_hour;
drop table usage_team_hours, usage_open_hours;
delete from usage_series s where project_id = 0 and not exists (select from usage_hours where series_id = s.id) and not exists (select from usage_days where series_id = s.id);
