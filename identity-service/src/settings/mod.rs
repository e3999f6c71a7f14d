//! Settings of customers, as a snapshot in memory that every request reads.

mod last_use;
mod load;
mod poll;
mod refused_host;
mod snapshot;

pub use poll::Settings;
pub use snapshot::{CollectHost, EnabledVendor, Environment, PipelineKey, Snapshot, Source};
