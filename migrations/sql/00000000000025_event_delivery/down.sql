DROP FUNCTION make_event_days, drop_event_day;
DROP TABLE delivery_processes, live_events, live_watches, replays, deliveries, delivery_cursors, event_heads, events, destinations;
DROP FUNCTION begin_delivery;
DROP SEQUENCE events_seq, live_events_seq;
