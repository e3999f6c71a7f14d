//! Delivery of accepted events.

mod amperity;
mod log;
mod outages;
mod owners;
mod people;
mod steering;
mod webhook;
