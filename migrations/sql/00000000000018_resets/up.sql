-- Browsers' IDs that began by a reset, with those that they replaced on their device: only a login or a proof makes the two
-- one person again.
CREATE TABLE resets (
    org_id       uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    anonymous_id text NOT NULL,
    replaced     text NOT NULL,
    at           timestamptz NOT NULL,
    PRIMARY KEY (org_id, anonymous_id, replaced)
);
CREATE INDEX resets_by_replaced ON resets (org_id, replaced);
CREATE INDEX resets_by_age ON resets (at);
