//! People as the control plane sees them: looked up, exported, taken apart again, erased, and forgotten in the end.

mod document;
mod erase;
mod events;
mod lookup;
pub mod reaper;
mod unmerge;

use std::sync::Arc;

use migrations::sealed::SealKeys;

use crate::{pii::tombstone::TombstoneKeys, storage::Stores};

/// The administration of people, with what it works on.
pub struct IdentityAdmin {
    /// The stores, PostgreSQL and Redis.
    pub stores: Stores,
    /// Keys that recognise who was erased.
    pub tombstones: Arc<TombstoneKeys>,
    /// Keys that seal those of tombstones.
    pub seal_keys: Arc<SealKeys>,
}
