//! Delivery of accepted events.

mod amperity;
mod canary;
mod log;
mod outages;
mod owners;
mod people;
mod profiles;
mod stalls;
mod steering;
mod webhook;
