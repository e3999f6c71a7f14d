DROP TABLE refused_hosts;
DROP TRIGGER one_org ON collect_hosts;
DROP FUNCTION keep_host_in_one_org;
ALTER TABLE collect_hosts DROP COLUMN authority;
