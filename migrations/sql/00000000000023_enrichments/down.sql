DROP TABLE provider_states;
DROP TABLE enrichments;
