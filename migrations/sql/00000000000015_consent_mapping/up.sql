-- The categories that a consent platform's codes stand for: {preset, codes: {CODE: category}}. Null: none does.
ALTER TABLE pipelines ADD COLUMN consent_mapping jsonb CHECK (jsonb_typeof(consent_mapping) = 'object');
-- Words of the source's own that are no identifiers, in lower case.
ALTER TABLE sources ADD COLUMN placeholders text[] NOT NULL DEFAULT '{}';
