DROP TABLE tombstone_keys;
