-- Whose an ID is, and how each identifier came to its person.

-- The way in which an identifier came to its canonical identity. It was only said of users whether somebody had
-- vouched for them; of browsers nothing is known.
ALTER TABLE links ALTER COLUMN verified DROP DEFAULT;
ALTER TABLE links ALTER COLUMN verified TYPE text
    USING CASE WHEN kind = 0 THEN 'own' WHEN verified THEN 'signed' ELSE 'claim' END;
ALTER TABLE links RENAME COLUMN verified TO via;
UPDATE links SET via = 'claim' WHERE kind = 0 AND EXISTS (
    SELECT FROM links theirs
    WHERE theirs.org_id = links.org_id AND theirs.canonical_id = links.canonical_id AND theirs.kind = 1);
ALTER TABLE links ALTER COLUMN via SET DEFAULT 'own', ADD CHECK (
    via IN ('own', 'signed', 'user_hash', 'identity_token', 'claim', 'cookie', 'link_token'));

-- A vendor ID belongs to the browser that brought it (kind 0), or to the user ID of a signed call that named no
-- browser (kind 1). Empty: nobody that is still linked to the identity. Where it was not recorded, an identity's
-- only browser has brought all that it has; but for generated IDs, which were never without their browser unless
-- that has left: no other is to be given them.
ALTER TABLE vendor_ids RENAME COLUMN anonymous_id TO owner;
UPDATE vendor_ids SET owner = NULL WHERE owner IS NOT NULL AND NOT EXISTS (
    SELECT FROM links WHERE links.org_id = vendor_ids.org_id AND links.kind = 0 AND links.value = vendor_ids.owner
        AND links.canonical_id = vendor_ids.canonical_id);
UPDATE vendor_ids SET owner = alone.value FROM (
    SELECT org_id, canonical_id, min(value) AS value FROM links WHERE kind = 0
    GROUP BY org_id, canonical_id HAVING count(*) = 1) AS alone
WHERE vendor_ids.owner IS NULL AND vendor_ids.source <> 'generated' AND alone.org_id = vendor_ids.org_id
    AND alone.canonical_id = vendor_ids.canonical_id;
UPDATE vendor_ids SET owner = '' WHERE owner IS NULL;
ALTER TABLE vendor_ids
    ALTER COLUMN owner SET NOT NULL,
    ALTER COLUMN owner SET DEFAULT '',
    ADD COLUMN owner_kind smallint NOT NULL DEFAULT 0 CHECK (owner_kind IN (0, 1)),
    -- True where the latest signals of its browser deny it: it answers for nobody else.
    ADD COLUMN is_withheld boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT vendor_ids_pkey,
    ADD PRIMARY KEY (org_id, canonical_id, field, owner_kind, owner);

-- The schedule of each browser. What an identity had is its only browser's, else that of the browser whose ID was
-- stored at the time of the last sync, else nobody's.
ALTER TABLE sync_attempts ADD COLUMN anonymous_id text NOT NULL DEFAULT '';
UPDATE sync_attempts SET anonymous_id = alone.value FROM (
    SELECT org_id, canonical_id, min(value) AS value FROM links WHERE kind = 0
    GROUP BY org_id, canonical_id HAVING count(*) = 1) AS alone
WHERE alone.org_id = sync_attempts.org_id AND alone.canonical_id = sync_attempts.canonical_id;
UPDATE sync_attempts SET anonymous_id = synced.owner FROM vendor_ids AS synced
WHERE sync_attempts.anonymous_id = '' AND synced.org_id = sync_attempts.org_id
    AND synced.canonical_id = sync_attempts.canonical_id AND synced.source = 'sync'
    AND synced.collected_at = sync_attempts.last_synced;
ALTER TABLE sync_attempts
    DROP CONSTRAINT sync_attempts_pkey,
    ADD PRIMARY KEY (org_id, canonical_id, vendor, anonymous_id);

-- IDs that gave way to another's when identities were merged are back where it is known whose they were:
-- those of an identity that has had a single browser of its own, which is still there. What came to it with
-- an earlier merge, or was collected after one, may have been another's; so may a survivor's generated IDs,
-- if a browser has left it by another login, and those come back by themselves, with the cookie.
CREATE TEMP TABLE alone ON COMMIT DROP AS
WITH came AS (
    SELECT org_id, survivor_id, merged_id, link ->> 'value' AS value
    FROM merge_history CROSS JOIN LATERAL jsonb_array_elements(moved -> 'links') AS link
    WHERE undone_at IS NULL AND link ->> 'kind' = 'anonymous_id'
)
SELECT org_id, id, min(value) AS value FROM (
    (SELECT org_id, merged_id AS id, value FROM came
        UNION SELECT org_id, canonical_id, value FROM links WHERE kind = 0)
    EXCEPT SELECT org_id, survivor_id, value FROM came) AS own
GROUP BY org_id, id HAVING count(*) = 1;
-- Otherwise the planner takes it for small, and goes through all of it again and again.
ANALYZE alone;
WITH had AS (
    SELECT org_id, merged_id AS id, ids
    FROM merge_history CROSS JOIN LATERAL jsonb_array_elements(moved -> 'vendor_ids') AS ids
    WHERE undone_at IS NULL
    UNION ALL SELECT org_id, survivor_id, ids
    FROM merge_history CROSS JOIN LATERAL jsonb_array_elements(moved -> 'replaced_ids') AS ids
    WHERE undone_at IS NULL AND ids ->> 'source' <> 'generated'
)
INSERT INTO vendor_ids (org_id, canonical_id, field, value, source, collected_at, expires_at, owner, pipeline_id)
SELECT DISTINCT ON (had.org_id, links.canonical_id, ids ->> 'field', links.value)
    had.org_id, links.canonical_id, ids ->> 'field', ids ->> 'value', ids ->> 'source',
    (ids ->> 'collected_at')::timestamptz, (ids ->> 'expires_at')::timestamptz, links.value,
    (ids ->> 'pipeline_id')::uuid
FROM had
JOIN alone ON alone.org_id = had.org_id AND alone.id = had.id
JOIN canonicals ON canonicals.org_id = had.org_id AND canonicals.id = had.id
JOIN links ON links.org_id = had.org_id AND links.kind = 0 AND links.value = alone.value
    AND links.canonical_id = coalesce(canonicals.merged_into, canonicals.id)
WHERE (ids ->> 'expires_at')::timestamptz > now() AND NOT EXISTS (
    SELECT FROM merge_history AS earlier WHERE earlier.org_id = had.org_id AND earlier.survivor_id = had.id AND (
        earlier.merged_at <= (ids ->> 'collected_at')::timestamptz
        OR earlier.moved -> 'vendor_ids' @> jsonb_build_array(jsonb_build_object(
            'field', ids -> 'field', 'value', ids -> 'value', 'collected_at', ids -> 'collected_at'))))
ORDER BY had.org_id, links.canonical_id, ids ->> 'field', links.value, (ids ->> 'collected_at')::timestamptz DESC
ON CONFLICT (org_id, canonical_id, field, owner_kind, owner) DO NOTHING;

-- What a merge moved: each ID knows its owner now, so the history has their number alone.
UPDATE merge_history SET moved = jsonb_build_object(
    'links', coalesce(moved -> 'links', '[]'), 'merged', coalesce(moved -> 'merged', '[]'),
    'vendor_ids', coalesce(jsonb_array_length(moved -> 'vendor_ids'), 0));

-- Contacts count as vouched for from the next signed call on.
UPDATE pii_digests SET verified = false;

-- The end of life up to which expired IDs have been followed by what stands behind them.
CREATE TABLE expiry_progress (
    id         boolean PRIMARY KEY DEFAULT true CHECK (id),
    expires_at timestamptz NOT NULL
);
INSERT INTO expiry_progress (expires_at) VALUES (now());
