DROP TABLE redis_repairs, merge_history, used_states, sync_attempts, vendor_ids, consent, links, canonicals;
