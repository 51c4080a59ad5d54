-- lost: API keys | select count(*) from api_keys
-- lost: projects | select count(*) from projects
-- lost: profiles | select count(*) from profiles
-- lost: teams | select count(*) from teams
-- lost: providers | select count(*) from providers
-- lost: credentials of providers | select count(*) from credentials
-- lost: models | select count(*) from models
-- lost: deployments | select count(*) from deployments
-- lost: recorded calls | select count(*) from calls
-- lost: lines of access logs that were kept aside | select count(*) from unknown_lines

drop table meters, attempts, calls, log_positions, unknown_lines;
drop table profile_models, profile_providers, deployments, models, credentials, providers, api_keys, profiles, projects, teams;
drop table config_revision, instance;
