ALTER TABLE reencryptions DROP COLUMN previous_key_id;
