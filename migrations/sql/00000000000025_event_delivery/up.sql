-- Delivery: where events go, the log that they wait in, and how far each destination is.

-- A destination of a source's events.
CREATE TABLE destinations (
    id          uuid PRIMARY KEY,
    org_id      uuid NOT NULL,
    source_id   uuid NOT NULL,
    vendor      text NOT NULL,
    enabled     boolean NOT NULL,
    config      jsonb NOT NULL,
    -- JSON object of its credentials, sealed. Those of Amperity are in profile_providers.
    sealed      bytea,
    sealed_at   timestamptz,
    credentials text[] NOT NULL DEFAULT '{}',
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source_id, vendor),
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);
CREATE TRIGGER count_version BEFORE UPDATE OF enabled, config, sealed_at ON destinations
    FOR EACH ROW EXECUTE FUNCTION count_version();
CREATE TRIGGER bump AFTER INSERT OR DELETE OR UPDATE OF enabled, config, sealed_at ON destinations
    FOR EACH ROW EXECUTE FUNCTION bump_config_version();

-- Accepted events, in the order in which they were committed: whoever adds some holds the log's lock until COMMIT, so
-- that a reader who remembers the last number has missed none.
CREATE SEQUENCE events_seq;
CREATE TABLE events (
    seq          bigint NOT NULL,
    -- Day of arrival, in UTC.
    day          date NOT NULL,
    org_id       uuid NOT NULL,
    source_id    uuid NOT NULL,
    canonical_id uuid NOT NULL,
    event_id     uuid NOT NULL,
    received_at  timestamptz NOT NULL,
    -- The envelope, sealed with a key of the source and the day.
    body         bytea NOT NULL
) PARTITION BY RANGE (day);
-- What is sealed is not compressed once more.
ALTER TABLE events ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX events_by_id ON events (day, source_id, event_id);
CREATE INDEX events_by_source ON events (source_id, seq);
CREATE INDEX events_by_person ON events (org_id, canonical_id);

-- The last event of each source, and how many there were of it in all.
CREATE TABLE event_heads (
    source_id uuid PRIMARY KEY,
    org_id    uuid NOT NULL,
    seq       bigint NOT NULL,
    events    bigint NOT NULL,
    bytes     bigint NOT NULL
);

-- How far a destination is, whose it is at the moment, and how it fares.
CREATE TABLE delivery_cursors (
    destination_id  uuid PRIMARY KEY REFERENCES destinations (id) ON DELETE CASCADE,
    source_id       uuid NOT NULL,
    -- The last event that it has had, with all before; and how many those were.
    position        bigint NOT NULL,
    events          bigint NOT NULL,
    bytes           bigint NOT NULL,
    -- The process that delivers to it.
    owner           uuid,
    -- Number that grows with each owner: a sleeper does not move what is another's.
    epoch           bigint NOT NULL DEFAULT 0,
    lease_until     timestamptz,
    -- Time at which people have paused it.
    paused_at       timestamptz,
    -- Reason for which it rests by itself.
    reason          text,
    -- Time of the next try.
    until           timestamptz,
    -- Requests a second that it is sent at most now.
    rate            real,
    -- Time at which it last said that it drops what it is sent.
    dropping_at     timestamptz,
    last_success_at timestamptz,
    last_error      jsonb
);
CREATE INDEX delivery_cursors_by_source ON delivery_cursors (source_id);

-- A destination begins with what comes from now on, also one that was off.
CREATE FUNCTION begin_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_cursors AS own (destination_id, source_id, position, events, bytes)
        SELECT NEW.id, NEW.source_id, COALESCE(max(seq), 0), COALESCE(max(events), 0), COALESCE(max(bytes), 0)
        FROM event_heads WHERE source_id = NEW.source_id
    ON CONFLICT (destination_id) DO UPDATE
        SET position = excluded.position, events = excluded.events, bytes = excluded.bytes, reason = NULL, until = NULL,
            epoch = own.epoch + 1, owner = NULL, lease_until = NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER begin_delivery AFTER INSERT ON destinations FOR EACH ROW EXECUTE FUNCTION begin_delivery();
CREATE TRIGGER begin_delivery_again AFTER UPDATE OF enabled ON destinations FOR EACH ROW
    WHEN (NEW.enabled AND NOT OLD.enabled) EXECUTE FUNCTION begin_delivery();

-- Events that a destination has not taken: to be tried again, waiting behind such a one, or given up.
CREATE TABLE deliveries (
    id             uuid PRIMARY KEY,
    destination_id uuid NOT NULL REFERENCES destinations (id) ON DELETE CASCADE,
    org_id         uuid NOT NULL,
    canonical_id   uuid NOT NULL,
    event_id       uuid NOT NULL,
    seq            bigint NOT NULL,
    -- Whose events stay in order: a digest of the browser's ID.
    lane           bytea NOT NULL CHECK (octet_length(lane) = 16),
    received_at    timestamptz NOT NULL,
    -- The envelope, sealed.
    sealed         bytea NOT NULL,
    attempts       smallint NOT NULL,
    -- Time of the next try. Absent: it waits for the one before it in its lane, or was given up.
    next_at        timestamptz,
    -- Time at which it was given up.
    dead_at        timestamptz,
    reason         text,
    last_status    smallint,
    UNIQUE (destination_id, event_id)
);
CREATE INDEX deliveries_due ON deliveries (destination_id, next_at) WHERE dead_at IS NULL;
CREATE INDEX deliveries_by_lane ON deliveries (destination_id, lane, seq) WHERE dead_at IS NULL;
CREATE INDEX deliveries_dead ON deliveries (destination_id, id) WHERE dead_at IS NOT NULL;
CREATE INDEX deliveries_by_age ON deliveries (dead_at) WHERE dead_at IS NOT NULL;
CREATE INDEX deliveries_by_person ON deliveries (org_id, canonical_id);

-- Events of the past that are sent once more.
CREATE TABLE replays (
    id             uuid PRIMARY KEY,
    org_id         uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    destination_id uuid NOT NULL REFERENCES destinations (id) ON DELETE CASCADE,
    from_at        timestamptz NOT NULL,
    to_at          timestamptz NOT NULL,
    -- Names of the events; none: all.
    events         text[] NOT NULL DEFAULT '{}',
    -- How far it is; absent until it has begun.
    position       bigint,
    sent           bigint NOT NULL DEFAULT 0,
    failed         bigint NOT NULL DEFAULT 0,
    state          text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'finished', 'cancelled')),
    started_by     text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz
);
CREATE INDEX replays_by_destination ON replays (destination_id, id);

-- Sources whose last events are recorded, as somebody looks at them.
CREATE TABLE live_watches (
    source_id uuid PRIMARY KEY,
    org_id    uuid NOT NULL,
    until     timestamptz NOT NULL,
    FOREIGN KEY (org_id, source_id) REFERENCES sources (org_id, id) ON DELETE CASCADE
);
CREATE SEQUENCE live_events_seq;
CREATE TABLE live_events (
    source_id    uuid NOT NULL,
    seq          bigint NOT NULL DEFAULT nextval('live_events_seq'),
    org_id       uuid NOT NULL,
    canonical_id uuid NOT NULL,
    event_id     uuid NOT NULL,
    at           timestamptz NOT NULL,
    -- What was collected and sent, sealed as the log is.
    body         bytea NOT NULL,
    PRIMARY KEY (source_id, seq)
);
CREATE INDEX live_events_by_person ON live_events (org_id, canonical_id);
CREATE INDEX live_events_by_age ON live_events (at);

-- Processes that deliver, and when each was last there: by their number destinations are shared out.
CREATE TABLE delivery_processes (
    id      uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- Makes the partitions of the day of `today` and of two to come. They are attached, which stops nobody who appends.
CREATE FUNCTION make_event_days(today date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part text;
BEGIN
    -- `days` in ASCII: one at a time.
    PERFORM pg_advisory_xact_lock(1684109683);
    FOR ahead IN 0..2 LOOP
        part := 'events_' || to_char(today + ahead, 'YYYY_MM_DD');
        IF to_regclass(part) IS NULL THEN
            EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', part);
            EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                part, today + ahead, today + ahead + 1);
        END IF;
    END LOOP;
END $$;

-- Drops the oldest partition that ended `keep` or more ago and has nothing that a destination has not had, or that ended
-- seven days ago, whatever it has. Tells how many were dropped, one at most, and how many events were in it that a
-- destination has not had, of which it counts no more than 100,000 a destination.
CREATE FUNCTION drop_event_day(today date, keep interval, OUT dropped bigint, OUT expired bigint) LANGUAGE plpgsql AS $$
DECLARE
    part      text;
    ended     timestamp;
    is_unread boolean;
    is_old    boolean;
BEGIN
    dropped := 0;
    expired := 0;
    IF NOT pg_try_advisory_xact_lock(1684109683) THEN
        RETURN;
    END IF;
    -- Whoever appends waits behind this one while it waits for a reader.
    PERFORM set_config('lock_timeout', '100ms', true);
    FOR part, ended IN
        SELECT child.relname, to_date(right(child.relname, 10), 'YYYY_MM_DD') + interval '1 day' AS day_end
        FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
        WHERE inhparent = 'events'::regclass ORDER BY day_end
    LOOP
        EXIT WHEN ended + keep > (now() AT TIME ZONE 'UTC') OR ended > today;
        is_old := ended + interval '7 days' <= (now() AT TIME ZONE 'UTC');
        EXECUTE format('SELECT EXISTS (SELECT FROM delivery_cursors own JOIN destinations ON id = destination_id AND enabled
            CROSS JOIN LATERAL (SELECT FROM %I old WHERE old.source_id = own.source_id AND old.seq > own.position
                LIMIT 1) AS rest)', part) INTO is_unread;
        CONTINUE WHEN is_unread AND NOT is_old;
        IF is_unread THEN
            EXECUTE format('SELECT count(*) FROM delivery_cursors own JOIN destinations ON id = destination_id AND enabled
                CROSS JOIN LATERAL (SELECT FROM %I old WHERE old.source_id = own.source_id AND old.seq > own.position
                    LIMIT 100000) AS rest', part) INTO expired;
        END IF;
        EXECUTE format('DROP TABLE %I', part);
        dropped := 1;
        RETURN;
    END LOOP;
END $$;
SELECT make_event_days((now() AT TIME ZONE 'UTC')::date);
