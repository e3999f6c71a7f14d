ALTER TABLE sync_attempts DROP COLUMN period_since, DROP COLUMN period_stored;
