//! Gateway sync: offering vendors, sending the browser off, and taking what comes back.

pub mod begin;
pub mod explain;
pub mod location;
pub mod pending;
pub mod schedule;
pub mod state;
pub mod store;
pub mod table;
pub mod uid;
pub mod vendor;
pub mod view;

#[cfg(test)]
mod fixtures;
