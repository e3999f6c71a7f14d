DROP TABLE erased;
DROP TABLE used_proofs;
DROP TABLE link_refusals;
ALTER TABLE merge_history DROP CONSTRAINT merge_history_org_id_merged_id_fkey;
DROP INDEX merge_history_by_link;
DROP INDEX merge_history_by_merged;
DROP INDEX canonicals_by_age;
ALTER TABLE canonicals DROP COLUMN linked_times;
ALTER TABLE canonicals DROP COLUMN linked_on;
