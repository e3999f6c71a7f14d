ALTER TABLE sources DROP COLUMN placeholders;
ALTER TABLE pipelines DROP COLUMN consent_mapping;
