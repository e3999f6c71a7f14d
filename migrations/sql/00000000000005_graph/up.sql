-- The identity graph: its bounds, what was refused, what may not count twice, and what must not come back.

-- New links of a canonical identity on its last day with any. More than twenty a day are refused.
ALTER TABLE canonicals ADD COLUMN linked_on date;
ALTER TABLE canonicals ADD COLUMN linked_times integer NOT NULL DEFAULT 0;
-- The reaper looks for identities that were not seen for long.
CREATE INDEX canonicals_by_age ON canonicals (last_seen_on);

CREATE INDEX merge_history_by_merged ON merge_history (org_id, merged_id);
-- Erasures look for identifiers that have moved on since.
CREATE INDEX merge_history_by_link ON merge_history USING gin ((moved -> 'links') jsonb_path_ops);
ALTER TABLE merge_history ADD FOREIGN KEY (org_id, merged_id)
    REFERENCES canonicals (org_id, id) ON DELETE CASCADE;

-- Links that were refused to a canonical identity: a row for each name of an identifier and reason.
CREATE TABLE link_refusals (
    org_id       uuid NOT NULL,
    canonical_id uuid NOT NULL,
    -- Name of the identifier (`user_id`, `cookie_anonymous_id` …), not its value.
    identifier   text NOT NULL,
    reason       text NOT NULL,
    times        integer NOT NULL DEFAULT 1,
    last_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, canonical_id, identifier, reason),
    FOREIGN KEY (org_id, canonical_id) REFERENCES canonicals (org_id, id) ON DELETE CASCADE
);

-- Messages of signed calls that changed the graph, and link tokens that were redeemed: each counts once.
CREATE TABLE used_proofs (
    org_id  uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    -- SHA-256 of the message ID, or of the token.
    digest  bytea NOT NULL CHECK (octet_length(digest) = 32),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, digest)
);
CREATE INDEX used_proofs_by_age ON used_proofs (used_at);

-- People who were erased: of each identifier the HMAC under a key of the organisation's. What was issued
-- before is refused.
CREATE TABLE erased (
    org_id    uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    digest    bytea NOT NULL CHECK (octet_length(digest) = 32),
    erased_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, digest)
);
CREATE INDEX erased_by_age ON erased (erased_at);
