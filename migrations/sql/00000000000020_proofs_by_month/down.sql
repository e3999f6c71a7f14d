ALTER TABLE used_proofs RENAME TO used_proofs_by_month;
ALTER INDEX used_proofs_pkey RENAME TO used_proofs_by_month_pkey;
CREATE TABLE used_proofs (
    org_id  uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    -- SHA-256 of the message ID, or of the token.
    digest  bytea NOT NULL CHECK (octet_length(digest) = 32),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, digest)
);
-- The end of its month: none is forgotten too early.
INSERT INTO used_proofs (org_id, digest, used_at)
    SELECT org_id, digest, least(now(), max(month) + interval '1 month') FROM used_proofs_by_month
    GROUP BY org_id, digest;
CREATE INDEX used_proofs_by_age ON used_proofs (used_at);
DROP TABLE used_proofs_by_month;
DROP FUNCTION keep_used_proofs(date);
