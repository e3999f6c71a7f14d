//! Gateway sync: offering vendors, sending the browser off, and taking what comes back.

pub mod begin;
pub mod explain;
pub mod ledger;
pub mod location;
pub mod pending;
pub mod schedule;
pub mod state;
pub mod store;
pub mod table;
pub mod uid;
pub mod vendor;
pub mod view;
pub mod writer;

#[cfg(test)]
mod fixtures;
