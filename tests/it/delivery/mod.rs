//! Delivery of accepted events.

mod log;
