//! Gateway sync: offering vendors, sending the browser off, and taking what comes back.

mod attempt;
mod begin;
pub mod breaker;
mod callback;
mod client;
pub mod counters;
pub mod explain;
pub mod pending;
mod privacy;
mod result;
pub mod schedule;
pub mod self_check;
pub mod shared_ids;
pub mod state;
pub mod uid;
pub mod used_states;
pub mod view;

#[cfg(test)]
mod fixtures;

use std::sync::Arc;

pub use self::begin::Request;
use self::{breaker::Breakers, shared_ids::SharedIds, state::StateKeys, used_states::UsedStates};
use crate::{
    limits::stranger_syncs::StrangerSyncs, pii::tombstone::TombstoneKeys, settings::Settings,
    storage::Stores, vendor_ids::writer::VendorIdWriter,
};

/// Gateway sync, with what it works on: [`GatewaySync::begin`] sends a browser off, [`GatewaySync::store`] takes what
/// comes back.
pub struct GatewaySync {
    /// The stores, PostgreSQL and Redis.
    pub stores: Stores,
    /// The settings that customers made.
    pub settings: Settings,
    /// Keys of sync states.
    pub states: StateKeys,
    /// States that have been used.
    pub used_states: UsedStates,
    /// Vendors that nobody is sent to for a while.
    pub breakers: Arc<Breakers>,
    /// IDs that vendors brought, with their browsers.
    pub shared_ids: SharedIds,
    /// The limit on syncs of visitors without an identity.
    pub stranger_syncs: StrangerSyncs,
    /// The writer of vendor IDs and schedules.
    pub writer: VendorIdWriter,
    /// Keys that recognise who was erased.
    pub tombstones: Arc<TombstoneKeys>,
}
