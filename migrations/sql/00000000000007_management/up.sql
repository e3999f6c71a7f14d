-- The control plane: who is logged in, what was changed and by whom, and what only vendors may see.

-- Every record that is changed by PUT counts its versions, so that writers can tell whether they have seen
-- the last one. Not fired by `sealed`: sealing the same value with another key is no change.
CREATE FUNCTION count_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END $$;

ALTER TABLE users
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN last_login_at timestamptz;
-- Users are found by organisation, in pages.
CREATE INDEX users_by_org ON users (org_id, id);
CREATE TRIGGER count_version BEFORE UPDATE OF email, name, role, password_hash, disabled_at ON users
    FOR EACH ROW EXECUTE FUNCTION count_version();

ALTER TABLE sources
    -- Calls without a signature are refused: nothing but the customer's servers may send.
    ADD COLUMN require_signature boolean NOT NULL DEFAULT false,
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE TRIGGER count_version BEFORE UPDATE ON sources FOR EACH ROW EXECUTE FUNCTION count_version();

ALTER TABLE pipelines
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE TRIGGER count_version BEFORE UPDATE ON pipelines FOR EACH ROW EXECUTE FUNCTION count_version();

ALTER TABLE identity_sources
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE TRIGGER count_version BEFORE UPDATE ON identity_sources FOR EACH ROW EXECUTE FUNCTION count_version();

ALTER TABLE generated_ids
    ADD COLUMN version integer NOT NULL DEFAULT 1,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE TRIGGER count_version BEFORE UPDATE ON generated_ids FOR EACH ROW EXECUTE FUNCTION count_version();

-- Rows are found by source, in pages; by organisation, when its settings are loaded.
CREATE INDEX pipeline_keys_by_source ON pipeline_keys (org_id, source_id, id);
CREATE INDEX server_secrets_by_source ON server_secrets (org_id, source_id);

-- The pipeline that collected an ID, which says what becomes of it when consent is withdrawn; absent where it
-- is not known.
ALTER TABLE vendor_ids ADD COLUMN pipeline_id uuid;

-- A login and all tokens that came of it. None of them is worth anything once it is revoked.
CREATE TABLE sessions (
    id         uuid PRIMARY KEY,
    org_id     uuid NOT NULL,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- End of its newest refresh token.
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX sessions_by_user ON sessions (user_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_by_end ON sessions (expires_at);
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE refresh_tokens (
    jti        uuid PRIMARY KEY,
    org_id     uuid NOT NULL,
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    -- SHA-256 of the token: a dump of this table opens nothing.
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    expires_at timestamptz NOT NULL,
    -- Set once, by the UPDATE that decides who may have the successor.
    used_at    timestamptz,
    successor  uuid
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_by_end ON refresh_tokens (expires_at);

-- Failures to log in, by account and network, and by network. Only hashes: what was typed may be a password.
CREATE TABLE login_failures (
    key   bytea PRIMARY KEY CHECK (octet_length(key) = 32),
    times integer NOT NULL,
    since timestamptz NOT NULL
);
CREATE INDEX login_failures_by_age ON login_failures (since);

-- The audit log: what was changed, and by whom. Rows are added and, after 90 days, removed; nothing changes
-- them.
CREATE TABLE audit_log (
    -- UUID v7, so that rows are in order of time.
    id            uuid PRIMARY KEY,
    org_id        uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    at            timestamptz NOT NULL DEFAULT now(),
    -- The user who made the change, and who may be gone; absent for a login that failed.
    user_id       uuid,
    user_email    text,
    -- What was done, such as `source.created`.
    action        text NOT NULL,
    resource_type text NOT NULL,
    resource_id   text NOT NULL,
    -- Field to {old, new}. A secret is never in it, nor anything of a visitor.
    changes       jsonb NOT NULL DEFAULT '{}',
    ip            text NOT NULL,
    user_agent    text NOT NULL
);
CREATE INDEX audit_log_by_org ON audit_log (org_id, id);
CREATE INDEX audit_log_by_resource ON audit_log (org_id, resource_id);
CREATE INDEX audit_log_by_age ON audit_log (at);

-- A source's server-proxied enrichment with one vendor of the core's table.
CREATE TABLE enrichment_settings (
    id         uuid PRIMARY KEY,
    org_id     uuid NOT NULL,
    source_id  uuid NOT NULL,
    vendor     text NOT NULL,
    enabled    boolean NOT NULL,
    -- Settings that differ from the vendor's record: base_url, method, path, headers, json_path, ttl.
    config     jsonb NOT NULL,
    -- JSON object of the vendor's credentials, sealed; absent where none were given yet.
    sealed     bytea,
    -- Time at which the credentials were given.
    sealed_at  timestamptz,
    -- Names of the credentials, which are told also where the key is not there.
    credentials text[] NOT NULL DEFAULT '{}',
    version    integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_id, vendor),
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);
CREATE TRIGGER count_version BEFORE UPDATE OF enabled, config, sealed_at ON enrichment_settings
    FOR EACH ROW EXECUTE FUNCTION count_version();

-- An identity provider of the customer's own, which authenticates with a named secret.
CREATE TABLE custom_providers (
    id          uuid PRIMARY KEY,
    org_id      uuid NOT NULL,
    source_id   uuid NOT NULL,
    name        text NOT NULL,
    -- The field of the identity that it fills.
    redis_field text NOT NULL,
    -- The settings as the product specification has them.
    settings    jsonb NOT NULL,
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_id, name),
    UNIQUE (source_id, redis_field),
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);
CREATE TRIGGER count_version BEFORE UPDATE ON custom_providers FOR EACH ROW EXECUTE FUNCTION count_version();

-- Secrets that settings name, `secret:cdp_api_token`.
CREATE TABLE secrets (
    id         uuid PRIMARY KEY,
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    name       text NOT NULL,
    sealed     bytea NOT NULL,
    sealed_at  timestamptz NOT NULL DEFAULT now(),
    version    integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, name)
);
CREATE TRIGGER count_version BEFORE UPDATE OF sealed_at ON secrets FOR EACH ROW EXECUTE FUNCTION count_version();

-- A source's profile provider: a CDP whose attributes of a visitor are read.
CREATE TABLE profile_providers (
    id         uuid PRIMARY KEY,
    org_id     uuid NOT NULL,
    source_id  uuid NOT NULL,
    provider   text NOT NULL,
    enabled    boolean NOT NULL,
    config     jsonb NOT NULL,
    -- JSON object of the provider's keys, sealed.
    sealed     bytea,
    sealed_at  timestamptz,
    credentials text[] NOT NULL DEFAULT '{}',
    version    integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_id, provider),
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);
CREATE TRIGGER count_version BEFORE UPDATE OF enabled, config, sealed_at ON profile_providers
    FOR EACH ROW EXECUTE FUNCTION count_version();

-- Number of values that each key has sealed: with random nonces of 96 bits a key is good for 2^32 (NIST SP
-- 800-38D, 8.3).
CREATE TABLE seal_counts (
    key_id bytea PRIMARY KEY CHECK (octet_length(key_id) = 4),
    times  bigint NOT NULL
);

-- Sealing everything of an organisation with the current key. At most one runs for each.
CREATE TABLE reencryptions (
    org_id      uuid PRIMARY KEY REFERENCES orgs (id) ON DELETE CASCADE,
    -- The key that it seals with.
    key_id      bytea NOT NULL CHECK (octet_length(key_id) = 4),
    -- Values that were sealed with another key at the start.
    total       bigint NOT NULL,
    -- Values that it has sealed.
    done        bigint NOT NULL DEFAULT 0,
    -- Values that no configured key opens; they are left as they are.
    failed      bigint NOT NULL DEFAULT 0,
    -- Progress: the table it has come to, and the last row of it.
    at_table    text NOT NULL,
    at_row      uuid NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX reencryptions_unfinished ON reencryptions (org_id) WHERE finished_at IS NULL;

-- The cores hold what a value is, not how it is sealed.
DROP TRIGGER bump ON server_secrets;
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF org_id, source_id, expires_at ON server_secrets
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF enabled, config, sealed_at ON enrichment_settings
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON custom_providers
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF name, sealed_at ON secrets
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF enabled, config, sealed_at ON profile_providers
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
