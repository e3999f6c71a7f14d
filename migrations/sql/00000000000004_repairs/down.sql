ALTER TABLE redis_repairs DROP COLUMN tries, DROP COLUMN nonce;
