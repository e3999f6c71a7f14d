DROP FUNCTION keep_events;
DROP TABLE live_events, live_watches, replays, deliveries, delivery_cursors, event_heads, events, destinations;
DROP FUNCTION begin_delivery;
DROP SEQUENCE events_seq, live_events_seq;
