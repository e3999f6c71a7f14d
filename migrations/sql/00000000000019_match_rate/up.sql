-- The period in which a browser's tries with a vendor count as one for the match rate: it began with a 302 while none ran,
-- and whether an ID came in it.
ALTER TABLE sync_attempts
    ADD COLUMN period_since  timestamptz,
    ADD COLUMN period_stored boolean NOT NULL DEFAULT false;
