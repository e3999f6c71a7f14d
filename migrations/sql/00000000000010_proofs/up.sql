ALTER TABLE sources
    -- Signed calls without a timestamp are refused: one that is replayed is good for five minutes alone.
    ADD COLUMN require_timestamp boolean NOT NULL DEFAULT false;

-- New links of a day that came with a proof, which have a bound of their own; linked_times are those without.
ALTER TABLE canonicals ADD COLUMN proven_times integer NOT NULL DEFAULT 0;
