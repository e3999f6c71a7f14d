DROP TABLE expiry_progress;

-- What a merge brought and what the survivor had of its own, by whose each ID is, as the version before tells
-- it: so it can take the merge apart, and nothing is lost when this comes back. The schedules stay with the
-- survivor.
WITH ids AS (
    SELECT *, jsonb_build_array(jsonb_build_object(
        'kind', CASE owner_kind WHEN 0 THEN 'anonymous_id' ELSE 'user_id' END, 'value', owner)) AS link
    FROM vendor_ids WHERE owner <> ''
), known AS (
    SELECT DISTINCT ON (merges.id, has_come, ids.field) merges.id AS merge, has_come, jsonb_build_object(
        'canonical_id', CASE WHEN has_come THEN merges.merged_id ELSE merges.survivor_id END,
        'field', ids.field, 'value', ids.value, 'source', ids.source, 'collected_at', ids.collected_at,
        'expires_at', ids.expires_at, 'pipeline_id', ids.pipeline_id) AS id
    FROM merge_history AS merges
    JOIN canonicals ON canonicals.org_id = merges.org_id AND canonicals.id = merges.merged_id
    JOIN ids ON ids.org_id = merges.org_id AND ids.canonical_id = canonicals.merged_into
    CROSS JOIN LATERAL (SELECT ids.link <@ (merges.moved -> 'links') AS has_come) AS way
    LEFT JOIN merge_history AS later ON later.org_id = merges.org_id AND later.merged_id = merges.survivor_id
        AND later.undone_at IS NULL
    WHERE merges.undone_at IS NULL AND (has_come OR (
        coalesce(ids.link <@ (later.moved -> 'links'), true) AND NOT EXISTS (
            SELECT FROM merge_history AS other
            WHERE other.org_id = merges.org_id AND other.survivor_id = merges.survivor_id
                AND other.undone_at IS NULL AND ids.link <@ (other.moved -> 'links'))))
    ORDER BY merges.id, has_come, ids.field, ids.is_withheld, ids.expires_at > now() DESC, ids.collected_at DESC,
        ids.owner_kind, ids.owner
), told AS (
    SELECT merge, jsonb_agg(id) FILTER (WHERE has_come) AS moved, jsonb_agg(id) FILTER (WHERE NOT has_come) AS replaced
    FROM known GROUP BY merge
)
UPDATE merge_history SET moved = jsonb_build_object(
    'links', merges.moved -> 'links', 'merged', merges.moved -> 'merged',
    'vendor_ids', coalesce(told.moved, '[]'), 'attempts', jsonb_build_object(),
    'replaced_ids', coalesce(told.replaced, '[]'), 'replaced_attempts', jsonb_build_object())
FROM merge_history AS merges LEFT JOIN told ON told.merge = merges.id
WHERE merges.id = merge_history.id;

-- Of several schedules of a vendor the one that synced last is the identity's.
DELETE FROM sync_attempts USING (
    SELECT ctid, row_number() OVER (
        PARTITION BY org_id, canonical_id, vendor ORDER BY last_synced DESC NULLS LAST, next_at DESC) AS place
    FROM sync_attempts) AS ranked
WHERE sync_attempts.ctid = ranked.ctid AND ranked.place > 1;
ALTER TABLE sync_attempts
    DROP CONSTRAINT sync_attempts_pkey,
    DROP COLUMN anonymous_id,
    ADD PRIMARY KEY (org_id, canonical_id, vendor);

-- Of several IDs of a field the newest that lives is the identity's.
DELETE FROM vendor_ids USING (
    SELECT ctid, row_number() OVER (
        PARTITION BY org_id, canonical_id, field
        ORDER BY is_withheld, expires_at > now() DESC, collected_at DESC, owner_kind, owner) AS place
    FROM vendor_ids) AS ranked
WHERE vendor_ids.ctid = ranked.ctid AND ranked.place > 1;
ALTER TABLE vendor_ids
    DROP CONSTRAINT vendor_ids_pkey,
    ALTER COLUMN owner DROP NOT NULL,
    ALTER COLUMN owner DROP DEFAULT;
UPDATE vendor_ids SET owner = NULL WHERE owner_kind = 1 OR owner = '';
ALTER TABLE vendor_ids
    DROP COLUMN is_withheld,
    DROP COLUMN owner_kind,
    ADD PRIMARY KEY (org_id, canonical_id, field);
ALTER TABLE vendor_ids RENAME COLUMN owner TO anonymous_id;

ALTER TABLE links DROP CONSTRAINT links_via_check;
ALTER TABLE links ALTER COLUMN via DROP DEFAULT;
ALTER TABLE links ALTER COLUMN via TYPE boolean
    USING kind = 0 OR via IN ('signed', 'user_hash', 'identity_token');
ALTER TABLE links RENAME COLUMN via TO verified;
ALTER TABLE links ALTER COLUMN verified SET DEFAULT false;
