//! Settings of customers, as a snapshot in memory that every request reads.

mod last_use;
mod load;
mod poll;
mod providers;
mod refused_host;
mod snapshot;

pub use poll::Settings;
pub use providers::{ProviderKind, SealedCredentials, StoredProvider};
pub use snapshot::{CollectHost, EnabledVendor, Environment, PipelineKey, Snapshot, Source};
