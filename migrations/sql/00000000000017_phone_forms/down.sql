ALTER TABLE pii_digests DROP COLUMN digits, DROP COLUMN ten;
