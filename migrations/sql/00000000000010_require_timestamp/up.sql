ALTER TABLE sources
    -- Signed calls without a timestamp are refused: one that is replayed is good for five minutes alone.
    ADD COLUMN require_timestamp boolean NOT NULL DEFAULT false;
