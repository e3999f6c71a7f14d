ALTER TABLE sources DROP COLUMN require_timestamp;
