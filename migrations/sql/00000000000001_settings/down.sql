DROP TABLE identity_sources, pipelines, server_secrets, pipeline_keys, collect_hosts, sources, users, orgs, config_version;
DROP FUNCTION bump_config_version(), lock_config_version();
