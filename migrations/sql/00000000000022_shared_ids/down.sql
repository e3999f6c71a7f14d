UPDATE sync_attempts SET outcome = 'no_id' WHERE outcome = 'shared_id';
ALTER TABLE sync_attempts
    DROP CONSTRAINT sync_attempts_outcome_check,
    ADD CONSTRAINT sync_attempts_outcome_check CHECK (outcome IN ('attempted', 'stored', 'no_id'));
