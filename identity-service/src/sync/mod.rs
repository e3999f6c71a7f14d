//! Gateway sync: offering vendors, sending the browser off, and taking what comes back.

pub mod begin;
pub mod callback;
pub mod explain;
pub mod pending;
pub mod schedule;
pub mod state;
pub mod uid;
pub mod view;

#[cfg(test)]
mod fixtures;
