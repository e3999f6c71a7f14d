-- The previous key of whoever began to seal anew: processes with another one, or none, would count as unreadable what
-- this one opens. Absent: there was none, and every process may help.
ALTER TABLE reencryptions ADD COLUMN previous_key_id bytea CHECK (octet_length(previous_key_id) = 4);
