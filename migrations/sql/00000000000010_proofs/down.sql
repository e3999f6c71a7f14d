UPDATE canonicals SET linked_times = LEAST(linked_times + proven_times, 20) WHERE proven_times > 0;
ALTER TABLE canonicals DROP COLUMN proven_times;
ALTER TABLE sources DROP COLUMN require_timestamp;
