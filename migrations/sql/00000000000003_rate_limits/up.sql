-- Events a second that each key of the pipeline may bring to one core; absent for the core's default.
ALTER TABLE pipelines ADD COLUMN rate_limit_rps integer CHECK (rate_limit_rps BETWEEN 1 AND 1000000);
