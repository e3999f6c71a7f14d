-- Pipeline keys are public, they stand in every page: so they are stored as they are, and can be shown at any time. Of
-- keys of before there is the hash alone.
ALTER TABLE pipeline_keys
    ADD COLUMN key text UNIQUE CHECK (key ~ '^dk_(live|test)_[A-Za-z0-9]{22,100}$'),
    ALTER COLUMN key_hash DROP NOT NULL,
    ADD CONSTRAINT pipeline_keys_known CHECK ((key IS NULL) <> (key_hash IS NULL));
DROP TRIGGER bump ON pipeline_keys;
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF org_id, source_id, environment, key, key_hash, revoked_at
    ON pipeline_keys FOR EACH ROW EXECUTE FUNCTION bump_config_version();
