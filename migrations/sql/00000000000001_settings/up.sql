-- The settings of customers. Every change bumps config_version in its own transaction (by trigger, so that no
-- writer can forget it); the cores poll that one row and reload the organisations that changed.

CREATE TABLE config_version (
    id      boolean PRIMARY KEY DEFAULT true CHECK (id),
    version bigint NOT NULL
);
INSERT INTO config_version (version) VALUES (1);

CREATE TABLE orgs (
    id             uuid PRIMARY KEY,
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- The organisation that a sibling belongs to. Set on the sibling, which holds the data of the
    -- organisation's test keys.
    test_of        uuid UNIQUE REFERENCES orgs (id) ON DELETE CASCADE,
    config_version bigint NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orgs_by_config_version ON orgs (config_version);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    org_id        uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    email         text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    name          text NOT NULL DEFAULT '',
    role          text NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
    password_hash text NOT NULL,
    disabled_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_by_email ON users (lower(email));

CREATE TABLE sources (
    id               uuid PRIMARY KEY,
    org_id           uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    name             text NOT NULL,
    -- Origins that may call, `host[:port]` (https) or `http://` for loopback. An empty list refuses every
    -- browser.
    domains          text[] NOT NULL DEFAULT '{}',
    browser_identity text NOT NULL DEFAULT 'verified' CHECK (browser_identity IN ('verified', 'claimed')),
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, id)
);

CREATE TABLE collect_hosts (
    id            uuid PRIMARY KEY,
    org_id        uuid NOT NULL,
    source_id     uuid NOT NULL,
    -- Scheme and authority, `https://collect.example.com`.
    url           text NOT NULL,
    -- The Domain attribute of `_dfid`; absent for a host-only cookie.
    cookie_domain text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_id, url),
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);

CREATE TABLE pipeline_keys (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL,
    source_id    uuid NOT NULL,
    environment  text NOT NULL CHECK (environment IN ('live', 'test')),
    -- SHA-256 of the whole key, which is random enough to need nothing slower.
    key_hash     bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    -- The first characters, to recognise the key by.
    hint         text NOT NULL,
    last_used_on date,
    created_at   timestamptz NOT NULL DEFAULT now(),
    revoked_at   timestamptz,
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);

CREATE TABLE server_secrets (
    id         uuid PRIMARY KEY,
    org_id     uuid NOT NULL,
    source_id  uuid NOT NULL,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- End of an old secret that passes beside its successor, set on rotation.
    expires_at timestamptz,
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);

-- A source has exactly one pipeline.
CREATE TABLE pipelines (
    id                  uuid PRIMARY KEY,
    org_id              uuid NOT NULL,
    source_id           uuid NOT NULL UNIQUE,
    consent_mode        text NOT NULL DEFAULT 'explicit' CHECK (consent_mode IN ('explicit', 'implicit')),
    purge_on_withdrawal boolean NOT NULL DEFAULT false,
    created_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);

-- A pipeline's gateway syncs. The vendor is a name in the core's table, which alone knows vendors.
CREATE TABLE identity_sources (
    org_id      uuid NOT NULL,
    pipeline_id uuid NOT NULL,
    vendor      text NOT NULL,
    partner_id  text NOT NULL CHECK (length(partner_id) BETWEEN 1 AND 256),
    ttl_days    integer NOT NULL CHECK (ttl_days BETWEEN 1 AND 400),
    enabled     boolean NOT NULL DEFAULT true,
    -- Replaces the vendor table's endpoint.
    endpoint    text,
    PRIMARY KEY (pipeline_id, vendor),
    FOREIGN KEY (org_id, pipeline_id) REFERENCES pipelines (org_id, id) ON DELETE CASCADE
);

CREATE FUNCTION bump_config_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed uuid;
    current bigint;
BEGIN
    IF TG_TABLE_NAME = 'orgs' THEN
        -- The bump below changes the row itself; a rename counts, the bump does not.
        IF TG_OP = 'UPDATE' AND NEW.config_version <> OLD.config_version THEN
            RETURN NULL;
        END IF;
        -- A sibling belongs to the settings of its organisation.
        changed := CASE WHEN TG_OP = 'DELETE' THEN COALESCE(OLD.test_of, OLD.id) ELSE COALESCE(NEW.test_of, NEW.id) END;
    ELSE
        changed := CASE WHEN TG_OP = 'DELETE' THEN OLD.org_id ELSE NEW.org_id END;
    END IF;
    -- The row's lock is held until the end of the transaction, so versions are in commit order.
    UPDATE config_version SET version = version + 1 RETURNING version INTO current;
    UPDATE orgs SET config_version = current WHERE id = changed;
    RETURN NULL;
END $$;

-- A change of an organisation locks its row before the trigger above comes to the version; every other change
-- has the version first. So that they can't wait for each other, the version comes first here too.
CREATE FUNCTION lock_config_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM config_version FOR UPDATE;
    RETURN NULL;
END $$;
CREATE TRIGGER lock_first BEFORE INSERT OR UPDATE OR DELETE ON orgs
    FOR EACH STATEMENT EXECUTE FUNCTION lock_config_version();

-- Not fired by `last_used_on`, which changes daily and is no setting.
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF org_id, source_id, environment, key_hash, revoked_at
    ON pipeline_keys FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON orgs
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON sources
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON collect_hosts
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON server_secrets
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON pipelines
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
CREATE TRIGGER bump AFTER INSERT OR UPDATE OR DELETE ON identity_sources
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
