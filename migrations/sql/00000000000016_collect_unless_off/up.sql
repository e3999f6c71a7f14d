-- Click and generated IDs of a vendor of which nothing is said are collected from now on; until here they were where
-- the vendor's sync was enabled. Pipelines of before go on as they were, which a row for each vendor says from now on.
-- That is no change of their settings, so no version is counted.
ALTER TABLE generated_ids DISABLE TRIGGER bump;
INSERT INTO generated_ids (org_id, pipeline_id, vendor, enabled)
SELECT own.org_id, own.id, known.vendor, EXISTS (
    SELECT FROM identity_sources AS sync WHERE sync.pipeline_id = own.id AND sync.vendor = known.vendor AND sync.enabled)
FROM pipelines AS own, unnest('{google,linkedin,meta,microsoft,nextdoor,outbrain,pinterest,reddit,snapchat,taboola,tiktok,x}'::text[])
    AS known (vendor)
ON CONFLICT DO NOTHING;
ALTER TABLE generated_ids ENABLE TRIGGER bump;
