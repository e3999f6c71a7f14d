-- Number of times that a repair was tried and failed by its own fault. From 5 on it is parked: it is left
-- where it is, for somebody to look at, and holds up no other.
ALTER TABLE redis_repairs ADD COLUMN tries integer NOT NULL DEFAULT 0;
-- Names the writer: a marker of its own, which reached Redis too late, is in nobody's way.
ALTER TABLE redis_repairs ADD COLUMN nonce text NOT NULL DEFAULT '';
