-- Back to choice by id. Policies restrict, so calls may go where one forbade it.
-- lost: policies, and what they forbid is allowed again | select count(*) from policies
-- lost: versions of policies | select count(*) from policy_versions
-- lost: models with quality or accuracy by task | select count(*) from models where task_quality <> '{}' or task_accuracy <> '{}'
-- lost: drained deployments, which take calls again | select count(*) from deployments where drained and deleted_at is null
-- lost: task matchers | select jsonb_array_length(task_matchers) from settings

drop table policy_versions, policies;
drop function keep_policy_version, policy_versions_are_append_only;
alter table models drop column task_quality, drop column task_accuracy;
alter table deployments drop column drained;
alter table settings drop column task_matchers;
