//! Keeping events for delivery: an event that is accepted of a source with a destination is in the log.

pub mod backlog;
mod keeper;
mod writer;

pub use keeper::{Brought, Keeper};
