//! Bodies of events, and the events in them.
#![no_main]

fuzz::target!(http_edge::laws::events);
