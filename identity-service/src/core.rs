//! What every call works with, built once at the start.

use moka::sync::Cache;
use uuid::Uuid;

use crate::{
    resolve::consent_writer::ConsentWriter,
    settings::Settings,
    storage::{Stores, postgres::create::Creator},
    sync::state::StateKeys,
};

/// The identity core.
pub struct Core {
    /// PostgreSQL and Redis.
    pub stores: Stores,
    /// What customers configured.
    pub settings: Settings,
    /// Makes canonical identities.
    pub creator: Creator,
    /// Stores consent.
    pub consents: ConsentWriter,
    /// Seals sync states.
    pub states: StateKeys,
    /// Which canonical identity an anonymous ID had last. Only a guess: it decides what is read ahead, and is
    /// never answered from, so it needs no invalidation.
    pub guesses: Cache<(Uuid, String), Uuid>,
}

/// Guesses that are kept; about 200 bytes each.
pub const GUESSES: u64 = 200_000;
