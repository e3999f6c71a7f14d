-- What providers have answered, by the values that they were asked with: one email on three devices is one call. It goes
-- with the person for whom it was asked.
CREATE TABLE enrichments (
    id           uuid PRIMARY KEY,
    org_id       uuid NOT NULL,
    -- The row of the provider's settings, in enrichment_settings or custom_providers.
    provider_id  uuid NOT NULL,
    -- SHA-256 of the provider's settings and of the request without its credentials.
    inputs       bytea NOT NULL CHECK (octet_length(inputs) = 32),
    canonical_id uuid NOT NULL,
    -- End of the lease of who asks the provider now.
    leased_until timestamptz,
    -- Absent until there is an answer.
    outcome      text CHECK (outcome IN ('found', 'none', 'opt_out')),
    value        text,
    -- Attributes of the person that came with the ID.
    attributes   jsonb,
    collected_at timestamptz,
    -- Time from which on the provider is asked again.
    expires_at   timestamptz,
    -- Time until which the value may still be used where the provider can't be asked.
    kept_until   timestamptz,
    -- What the provider gave to refresh the value with, sealed.
    sealed       bytea,
    UNIQUE (org_id, provider_id, inputs),
    CHECK ((outcome IS NULL) = (expires_at IS NULL)),
    CHECK ((outcome = 'found') = (value IS NOT NULL)),
    FOREIGN KEY (org_id, canonical_id) REFERENCES canonicals (org_id, id) ON DELETE CASCADE
);
CREATE INDEX enrichments_by_canonical ON enrichments (org_id, canonical_id);
CREATE INDEX enrichments_by_end ON enrichments (COALESCE(kept_until, leased_until));

-- What came of calls to a provider, shared by all instances.
CREATE TABLE provider_states (
    org_id          uuid NOT NULL,
    -- Name of the vendor or of the customer's own provider.
    provider        text NOT NULL,
    source_id       uuid NOT NULL,
    -- Time until which the provider has asked for a pause.
    backoff_until   timestamptz,
    -- Version of the credentials that the provider refused: the time at which they were given.
    refused_version timestamptz,
    refused_at      timestamptz,
    last_success_at timestamptz,
    last_error      text,
    last_status     smallint,
    last_error_at   timestamptz,
    PRIMARY KEY (org_id, provider, source_id),
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);
