-- Proofs by the month in which they were used: each server that signs without a time leaves a row an event, and a month
-- that is over is dropped whole.
ALTER TABLE used_proofs RENAME TO used_proofs_before;
ALTER INDEX used_proofs_pkey RENAME TO used_proofs_before_pkey;

CREATE TABLE used_proofs (
    org_id uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    -- SHA-256 of the message ID, or of the token.
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    -- First day of the month of use, in UTC.
    month  date NOT NULL CHECK (extract(day FROM month) = 1),
    PRIMARY KEY (org_id, digest, month)
) PARTITION BY RANGE (month);

-- Makes the partitions of the month of `today` and of two to come, drops those that ended 400 days before, and tells how
-- many these were. Waits for nobody longer than a second: whoever comes next is blocked meanwhile.
CREATE FUNCTION keep_used_proofs(today date) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first   date := date_trunc('month', today::timestamp);
    part    text;
    dropped bigint := 0;
BEGIN
    PERFORM set_config('lock_timeout', '1s', true);
    FOR ahead IN 0..2 LOOP
        part := 'used_proofs_' || to_char(first, 'YYYY_MM');
        IF to_regclass(part) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF used_proofs FOR VALUES FROM (%L) TO (%L)',
                part, first, first + interval '1 month');
        END IF;
        first := first + interval '1 month';
    END LOOP;
    FOR part IN
        SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'used_proofs'::regclass
            AND child.relname < 'used_proofs_' || to_char(today - 400, 'YYYY_MM')
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

SELECT keep_used_proofs(day::date) FROM generate_series(now() - interval '401 days', now(), interval '1 month') day;
SELECT keep_used_proofs((now() AT TIME ZONE 'UTC')::date);
INSERT INTO used_proofs (org_id, digest, month)
    SELECT org_id, digest, date_trunc('month', used_at AT TIME ZONE 'UTC') FROM used_proofs_before
    WHERE used_at > now() - interval '400 days';
DROP TABLE used_proofs_before;
