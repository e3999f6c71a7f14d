-- The keys of an organisation's tombstones (`erased`), sealed: so they stay what they are when the encryption key is
-- rotated. Several where cores made one at the same time under different encryption keys; all of them count.
CREATE TABLE tombstone_keys (
    id         uuid PRIMARY KEY,
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tombstone_keys_by_org ON tombstone_keys (org_id, created_at);
-- The cores hold what a key is, not how it is sealed.
CREATE TRIGGER bump AFTER INSERT OR DELETE ON tombstone_keys
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();
