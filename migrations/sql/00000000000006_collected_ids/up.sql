-- IDs that are collected without asking a vendor: click IDs of page URLs, IDs made in the vendor's own
-- format, and digests of what people said their email and phone are.

-- A pipeline's choice to collect a vendor's click IDs and generate its IDs, or not to. Without a row they are
-- collected and generated where the vendor's gateway sync is enabled.
CREATE TABLE generated_ids (
    org_id      uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    vendor      text NOT NULL,
    enabled     boolean NOT NULL,
    PRIMARY KEY (pipeline_id, vendor),
    FOREIGN KEY (org_id, pipeline_id) REFERENCES pipelines (org_id, id) ON DELETE CASCADE
);
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON generated_ids
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();

-- The browser that an ID was collected from; absent where that is not known. No other browser is given a
-- generated value, whoever says that they belong together.
ALTER TABLE vendor_ids ADD COLUMN anonymous_id text;

-- The newest email and phone that came with an identifier, digested. They link nobody, and go with their
-- link.
CREATE TABLE pii_digests (
    org_id       uuid NOT NULL,
    -- The identifier, as in links.
    kind         smallint NOT NULL,
    value        text NOT NULL,
    what         text NOT NULL CHECK (what IN ('email', 'phone')),
    -- Digests of the trimmed, lower-case text. A caller that sends a ready-made SHA-256 sends no others.
    lower_sha256 bytea NOT NULL CHECK (octet_length(lower_sha256) = 32),
    lower_sha1   bytea CHECK (octet_length(lower_sha1) = 20),
    lower_md5    bytea CHECK (octet_length(lower_md5) = 16),
    -- Digests of UID2's normal form.
    uid2_sha256  bytea CHECK (octet_length(uid2_sha256) = 32),
    uid2_sha1    bytea CHECK (octet_length(uid2_sha1) = 20),
    uid2_md5     bytea CHECK (octet_length(uid2_md5) = 16),
    -- True where it came in a signed call or with a user_hash.
    verified     boolean NOT NULL,
    seen_at      timestamptz NOT NULL,
    PRIMARY KEY (org_id, kind, value, what),
    FOREIGN KEY (org_id, kind, value) REFERENCES links (org_id, kind, value) ON DELETE CASCADE
);
