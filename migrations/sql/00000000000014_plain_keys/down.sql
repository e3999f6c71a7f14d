ALTER TABLE pipeline_keys DROP CONSTRAINT pipeline_keys_known;
UPDATE pipeline_keys SET key_hash = sha256(convert_to(key, 'UTF8')) WHERE key IS NOT NULL;
DROP TRIGGER bump ON pipeline_keys;
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF org_id, source_id, environment, key_hash, revoked_at
    ON pipeline_keys FOR EACH ROW EXECUTE FUNCTION bump_config_version();
ALTER TABLE pipeline_keys
    DROP COLUMN key,
    ALTER COLUMN key_hash SET NOT NULL;
