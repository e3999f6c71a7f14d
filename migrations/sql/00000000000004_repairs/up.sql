-- How often a repair was tried and failed by its own fault. From 5 on it is parked: it is left where it is, for
-- somebody to look at, and holds up no other.
ALTER TABLE redis_repairs ADD COLUMN tries integer NOT NULL DEFAULT 0;
