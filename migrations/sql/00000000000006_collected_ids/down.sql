DROP TABLE pii_digests;
ALTER TABLE vendor_ids DROP COLUMN anonymous_id;
DROP TABLE generated_ids;
