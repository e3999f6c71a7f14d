//! Resolving browsers and users to canonical identities. [`resolving`] is the table of contents of a request.

mod answer;
pub mod consent;
pub mod consent_writer;
pub mod contacts;
mod device;
mod erased;
pub mod facts;
mod identify;
pub mod known_pairs;
pub mod link_token;
mod looks;
mod newcomers;
mod resolving;
pub mod subject;
mod withdrawal;
mod withheld;

use std::sync::Arc;

use self::{
    consent_writer::ConsentWriter,
    contacts::StoredContacts,
    known_pairs::{DistinctUsers, ProvenUsers, UnderstoodConsents},
    link_token::LinkTokens,
};
use crate::{
    graph::writer::GraphWriter,
    limits::new_identities::NewIdentities,
    pii::tombstone::TombstoneKeys,
    storage::{Stores, canonical_hints::CanonicalHints, postgres::create::Creator},
    sync::breaker::Breakers,
    vendor_ids::writer::VendorIdWriter,
};

/// Resolves requests; with all that it works on.
pub struct Resolver {
    /// The stores, PostgreSQL and Redis.
    pub stores: Stores,
    /// The maker of canonical identities.
    pub creator: Creator,
    /// The writer of links and merges.
    pub graph: GraphWriter,
    /// The writer of consent.
    pub consents: ConsentWriter,
    /// The writer of vendor IDs.
    pub vendor_ids: VendorIdWriter,
    /// Keys of link tokens.
    pub link_tokens: LinkTokens,
    /// Keys that recognise who was erased.
    pub tombstones: Arc<TombstoneKeys>,
    /// Guesses of what to read ahead.
    pub hints: CanonicalHints,
    /// Identities that are known to have different users.
    pub distinct_users: DistinctUsers,
    /// Users that are known to be vouched for.
    pub proven_users: ProvenUsers,
    /// Consent objects that need not be read again.
    pub understood: UnderstoodConsents,
    /// Emails and phones that need not be stored again.
    pub contacts: StoredContacts,
    /// Vendors of syncs that nobody is sent to for a while.
    pub breakers: Arc<Breakers>,
    /// The limit on new identities of an address.
    pub new_identities: NewIdentities,
}
