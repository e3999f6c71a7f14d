-- A phone in the further forms that somebody asks for, since the plain number is gone once its event is: the digits alone,
-- and the ten digits of a number of North America; each as its SHA-256, SHA-1 and MD5 in a row. Of phones, lower_* is the
-- text as it came, trimmed and in lower case, and uid2_* the number in E.164.
ALTER TABLE pii_digests
    ADD COLUMN digits bytea CHECK (octet_length(digits) = 68),
    ADD COLUMN ten    bytea CHECK (octet_length(ten) = 68);
