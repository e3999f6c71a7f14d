-- The knowledge about visitors. PostgreSQL is the truth, Redis is rebuilt from it. Every key begins with the
-- organisation, so no statement can reach another's rows by an identifier alone.

CREATE TABLE canonicals (
    org_id       uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id           uuid NOT NULL,
    -- The identity that it was merged into, always a root; absent where it is a root itself.
    merged_into  uuid,
    created_at   timestamptz NOT NULL DEFAULT now(),
    -- The last day on which it was seen, coarsely, for the reaper.
    last_seen_on date NOT NULL DEFAULT CURRENT_DATE,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX canonicals_by_root ON canonicals (org_id, merged_into) WHERE merged_into IS NOT NULL;

CREATE TABLE links (
    org_id       uuid NOT NULL,
    -- The kind of identifier: 0 is anonymous_id, 1 is user_id.
    kind         smallint NOT NULL CHECK (kind IN (0, 1)),
    value        text NOT NULL CHECK (octet_length(value) BETWEEN 1 AND 1024),
    canonical_id uuid NOT NULL,
    -- True where it came in a signed call or with a user_hash.
    verified     boolean NOT NULL DEFAULT false,
    linked_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, kind, value),
    FOREIGN KEY (org_id, canonical_id) REFERENCES canonicals (org_id, id) ON DELETE CASCADE
);
CREATE INDEX links_by_canonical ON links (org_id, canonical_id);

CREATE TABLE consent (
    org_id       uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    anonymous_id text NOT NULL,
    -- The consent object, verbatim; absent where only Sec-GPC came.
    signals      text,
    sec_gpc      boolean NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (org_id, anonymous_id)
);

CREATE TABLE vendor_ids (
    org_id       uuid NOT NULL,
    canonical_id uuid NOT NULL,
    field        text NOT NULL,
    value        text NOT NULL,
    source       text NOT NULL CHECK (source IN ('sync', 'enrichment', 'click', 'generated')),
    collected_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (org_id, canonical_id, field),
    FOREIGN KEY (org_id, canonical_id) REFERENCES canonicals (org_id, id) ON DELETE CASCADE
);
CREATE INDEX vendor_ids_by_expiry ON vendor_ids (expires_at);

-- The schedule, with one row for each vendor that was tried for a canonical identity.
CREATE TABLE sync_attempts (
    org_id           uuid NOT NULL,
    canonical_id     uuid NOT NULL,
    vendor           text NOT NULL,
    -- Time at which an ID was last stored.
    last_synced      timestamptz,
    ttl_days         integer,
    outcome          text NOT NULL CHECK (outcome IN ('attempted', 'stored', 'no_id')),
    -- Unanswered attempts since unanswered_since.
    attempts         integer NOT NULL,
    unanswered_since timestamptz,
    next_at          timestamptz NOT NULL,
    PRIMARY KEY (org_id, canonical_id, vendor),
    FOREIGN KEY (org_id, canonical_id) REFERENCES canonicals (org_id, id) ON DELETE CASCADE
);

-- Sync states are single use: only one issued after the last one used is accepted. A state lives for ten
-- minutes, so the reaper may drop rows soon after.
CREATE TABLE used_states (
    org_id       uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    anonymous_id text NOT NULL,
    vendor       text NOT NULL,
    issued_at    timestamptz NOT NULL,
    PRIMARY KEY (org_id, anonymous_id, vendor)
);
CREATE INDEX used_states_by_age ON used_states (issued_at);

CREATE TABLE merge_history (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL,
    survivor_id  uuid NOT NULL,
    merged_id    uuid NOT NULL,
    -- The links and vendor IDs that moved, so that the merge can be undone.
    moved        jsonb NOT NULL,
    merged_at    timestamptz NOT NULL DEFAULT now(),
    undone_at    timestamptz,
    FOREIGN KEY (org_id, survivor_id) REFERENCES canonicals (org_id, id) ON DELETE CASCADE
);
CREATE INDEX merge_history_by_survivor ON merge_history (org_id, survivor_id);

-- Redis keys that could not be marked before a change was committed: any core deletes them and the row.
CREATE TABLE redis_repairs (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    redis_key  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
