-- A collect host belongs to one organisation: its visitors' cookies are the host's, and whoever collects there reads
-- and sets them.

-- The host as requests name it (serve::Authority): without the dot at the end of a full name, and without the schemes'
-- own ports, whichever the scheme is.
ALTER TABLE collect_hosts ADD COLUMN authority text NOT NULL GENERATED ALWAYS AS (
    regexp_replace(regexp_replace(url, '^https?://|\.(?=(:\d+)?$)', '', 'g'), ':(80|443)$', '')) STORED;
CREATE INDEX collect_hosts_by_authority ON collect_hosts (authority);

-- Where several organisations have one, it is whose claim is the oldest. `--migrate` names what goes here.
DELETE FROM collect_hosts AS lost USING (
    SELECT DISTINCT ON (authority) authority, org_id FROM collect_hosts ORDER BY authority, created_at, id) AS first
WHERE first.authority = lost.authority AND first.org_id <> lost.org_id;

CREATE FUNCTION keep_host_in_one_org() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Two claims at once are no race: `bump`, which comes first by its name, has every change of settings wait for the
    -- one before.
    IF EXISTS (SELECT FROM collect_hosts WHERE authority = NEW.authority AND org_id <> NEW.org_id) THEN
        RAISE unique_violation USING
            MESSAGE = 'the collect host is another organisation''s',
            DETAIL = NEW.url,
            CONSTRAINT = 'collect_hosts_of_one_org';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER one_org AFTER INSERT OR UPDATE OF url, org_id ON collect_hosts
    FOR EACH ROW EXECUTE FUNCTION keep_host_in_one_org();

-- The last host by which a source's key was refused, for the people who wonder why nothing arrives. No setting: a
-- table of its own, so that no version is counted.
CREATE TABLE refused_hosts (
    source_id  uuid PRIMARY KEY,
    org_id     uuid NOT NULL,
    host       text NOT NULL CHECK (length(host) <= 100),
    refused_on date NOT NULL,
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);
