-- Back to calls without cost. What they cost by then stays with them.
-- lost: prices | select count(*) from prices
-- lost: versions of prices | select count(*) from price_versions
-- lost: which price each quantity was charged by | select count(*) from meters where price_version is not null

alter table meters drop column price_version;
drop table price_versions, prices;
drop function keep_price_version, price_versions_are_append_only;
