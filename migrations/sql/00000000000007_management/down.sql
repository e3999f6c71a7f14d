DROP TABLE reencryptions, seal_counts, profile_providers, secrets, custom_providers, enrichment_settings, audit_log,
    login_failures, refresh_tokens, sessions;

DROP TRIGGER bump ON server_secrets;
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON server_secrets
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();

DROP INDEX pipeline_keys_by_source, server_secrets_by_source;
ALTER TABLE vendor_ids DROP COLUMN pipeline_id;
DROP TRIGGER count_version ON generated_ids;
ALTER TABLE generated_ids DROP COLUMN version, DROP COLUMN updated_at;
DROP TRIGGER count_version ON identity_sources;
ALTER TABLE identity_sources DROP COLUMN version, DROP COLUMN updated_at;
DROP TRIGGER count_version ON pipelines;
ALTER TABLE pipelines DROP COLUMN version, DROP COLUMN updated_at;
DROP TRIGGER count_version ON sources;
ALTER TABLE sources DROP COLUMN require_signature, DROP COLUMN version, DROP COLUMN updated_at;
DROP TRIGGER count_version ON users;
DROP INDEX users_by_org;
ALTER TABLE users DROP COLUMN version, DROP COLUMN updated_at, DROP COLUMN last_login_at;
DROP FUNCTION count_version();
