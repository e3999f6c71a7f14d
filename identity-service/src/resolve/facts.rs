//! The facts that one request has learned of its people.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{
    identifiers::Identifier,
    storage::{cache_entries::ConsentEntry, mark::Mark, via::Via},
    sync::view::View,
    vendor_ids::stored::StoredIds,
};

/// A canonical identity as one request knows it.
#[derive(Debug, Clone, Copy)]
pub struct KnownIdentity {
    /// The identity's canonical ID.
    pub canonical: Uuid,
    /// True where this request made the identity.
    pub created: bool,
}

/// A canonical identity, and the mark of the browser for which it is looked at.
pub type Seen = (Uuid, Option<Mark>);

/// Facts that one request has learned so far, in trees rather than hash maps: mostly there is one person, and
/// IDs are the visitor's to choose.
#[derive(Debug, Default)]
pub struct Facts {
    pub(super) canonicals: BTreeMap<Identifier, KnownIdentity>,
    /// Identifiers whose key is missing and may be filled.
    pub(super) fillable: BTreeSet<Identifier>,
    pub(super) consents: BTreeMap<String, ConsentEntry>,
    /// Browsers whose consent key is missing and may be filled.
    pub(super) fillable_consents: BTreeSet<String>,
    /// Schedules by canonical identity and browser.
    pub(super) syncs: BTreeMap<Seen, View>,
    /// Stored values of the fields that the request collects, by canonical identity and browser.
    pub(super) stored: BTreeMap<Seen, StoredIds>,
    /// Canonical identities that were hinted at.
    pub(super) hints: Vec<Uuid>,
}

impl Facts {
    /// The canonical identity of an identifier, as far as it is known.
    pub fn canonical(&self, id: &Identifier) -> Option<KnownIdentity> {
        self.canonicals.get(id).copied()
    }

    /// Learns an identifier's canonical identity.
    pub fn learn(&mut self, id: Identifier, known: KnownIdentity) {
        self.canonicals.insert(id, known);
    }

    /// Forgets the canonical identity of an identifier, which does not count any more.
    pub fn forget(&mut self, id: &Identifier) {
        self.canonicals.remove(id);
    }

    /// True where Redis does not know the identifier and may be told.
    pub fn is_fillable(&self, id: &Identifier) -> bool {
        self.fillable.contains(id)
    }

    /// Consent that is stored for a browser; none where it could not be read.
    pub fn consent(&self, anonymous_id: &str) -> Option<&ConsentEntry> {
        self.consents.get(anonymous_id)
    }

    /// Learns the consent that is stored for a browser.
    pub fn learn_consent(&mut self, anonymous_id: &str, entry: ConsentEntry) {
        self.consents.insert(anonymous_id.to_owned(), entry);
    }

    /// True where Redis does not know the browser's consent and may be told.
    pub fn is_consent_fillable(&self, anonymous_id: &str) -> bool {
        self.fillable_consents.contains(anonymous_id)
    }

    /// True where this identity was hinted at for one of the request's people.
    pub fn was_hinted(&self, canonical: Uuid) -> bool {
        self.hints.contains(&canonical)
    }

    /// Stored values of a person's browser in the fields that the request collects; none where they could not be
    /// read.
    pub fn stored(&self, canonical: Uuid, mark: Option<Mark>) -> Option<&StoredIds> {
        self.stored.get(&(canonical, mark))
    }

    /// Learns what is stored of a person's browser.
    pub fn learn_stored(&mut self, seen: Seen, stored: StoredIds) {
        self.stored.insert(seen, stored);
    }

    /// The way in which a browser is known to have come to its user.
    pub fn way(&self, canonical: Uuid, mark: Option<Mark>) -> Option<Via> {
        self.syncs.get(&(canonical, mark))?.way(mark?)
    }

    /// Forgets the schedules of an identifier's canonical identity, which are others once its ties have changed.
    pub fn forget_syncs(&mut self, id: &Identifier) {
        if let Some(known) = self.canonical(id) {
            self.syncs.retain(|(canonical, _), _| *canonical != known.canonical);
        }
    }

    /// Takes the schedule that was read ahead; none where this one was not.
    pub fn take_syncs(&mut self, canonical: Uuid, mark: Option<Mark>) -> Option<View> {
        self.syncs.remove(&(canonical, mark))
    }
}
