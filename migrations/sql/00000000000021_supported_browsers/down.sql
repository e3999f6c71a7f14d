ALTER TABLE identity_sources DROP COLUMN supported_browsers_only;
