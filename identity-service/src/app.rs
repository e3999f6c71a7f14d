//! What every call works with, built once at the start.

use std::sync::Arc;

use serve::Networks;

use crate::{
    graph::writer::GraphWriter,
    pii::tombstone::TombstoneKeys,
    resolve::{
        canonical_hints::Guesses,
        consent_writer::ConsentWriter,
        contacts::Remembered,
        known_pairs::{Strangers, Vouched},
        link_token::LinkTokens,
    },
    settings::Settings,
    storage::{Stores, postgres::create::Creator},
    sync::state::StateKeys,
    vendor_ids::writer::SyncWriter,
};

/// The identity core.
pub struct Core {
    /// PostgreSQL and Redis.
    pub stores: Stores,
    /// What customers configured.
    pub settings: Settings,
    /// Makes canonical identities.
    pub creator: Creator,
    /// Links and merges them.
    pub graph: GraphWriter,
    /// Stores consent.
    pub consents: ConsentWriter,
    /// Stores what happens to syncs.
    pub syncs: SyncWriter,
    /// Seals sync states.
    pub states: StateKeys,
    /// Seals link tokens.
    pub link_tokens: LinkTokens,
    /// Recognises who was erased.
    pub tombstones: Arc<TombstoneKeys>,
    /// What is read ahead.
    pub guesses: Guesses,
    /// Who is known not to be the same.
    pub strangers: Strangers,
    /// Emails and phones that need not be stored again.
    pub contacts: Remembered,
    /// What need not be stored again.
    pub vouched: Vouched,
    /// Where calls for customers may go beside public hosts.
    pub open_networks: Networks,
}
