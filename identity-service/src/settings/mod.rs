//! What customers configured, as a snapshot in memory that every request reads.

mod load;
mod poll;
mod snapshot;

pub use poll::Settings;
pub use snapshot::{CollectHost, ConsentMode, EnabledVendor, Environment, Snapshot, Source};
