//! What every call works with, built once at the start.

use crate::{
    resolve::{consent_writer::ConsentWriter, guesses::Guesses},
    settings::Settings,
    storage::{Stores, postgres::create::Creator},
    sync::{state::StateKeys, writer::SyncWriter},
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
    /// Stores what happens to syncs.
    pub syncs: SyncWriter,
    /// Seals sync states.
    pub states: StateKeys,
    /// What is read ahead.
    pub guesses: Guesses,
}
