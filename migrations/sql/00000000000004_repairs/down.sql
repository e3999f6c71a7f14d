ALTER TABLE redis_repairs DROP COLUMN tries;
