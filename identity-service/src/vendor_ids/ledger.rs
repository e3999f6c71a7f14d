//! The ledger of one transaction: what is stored for the visitors of one organisation goes in, each producer
//! decides in its turn and enters what it changes, and what is to be stored comes out. Pure, however many
//! writes concern one visitor.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    schedules,
    stored::{StoredId, StoredIds},
    ties::Ties,
};
use crate::{
    identifiers::{Identifier, Kind},
    storage::{
        attempt::{Attempt, Attempts, VendorAndBrowser},
        cache_entries::{self, ConsentEntry},
        postgres::rows::{BrowserAndVendor, Owner, VendorIdRow},
    },
};

/// The ledger: what is stored, and what has changed of it.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Locked roots by identifier.
    pub roots: HashMap<Identifier, Uuid>,
    /// Ties of the identifiers of each locked root.
    pub ties: HashMap<Uuid, Ties>,
    /// Stored consent by browser.
    pub consents: HashMap<String, ConsentEntry>,
    /// Stored schedules by canonical identity, those that changed included.
    pub attempts: HashMap<Uuid, Attempts>,
    /// Stored vendor IDs by canonical identity and owner, where a producer asks for them.
    pub stored: HashMap<(Uuid, Owner), StoredIds>,
    /// Issue times up to which sync states do not count any more.
    pub used: HashMap<BrowserAndVendor, OffsetDateTime>,
    /// States that were used up.
    pub new_used: BTreeMap<BrowserAndVendor, OffsetDateTime>,
    /// Schedules that changed in this transaction.
    pub new_attempts: BTreeMap<(Uuid, VendorAndBrowser), Attempt>,
    /// IDs that came, by canonical identity, field and owner.
    pub new_ids: BTreeMap<(Uuid, String, Owner), VendorIdRow>,
}

impl Ledger {
    /// The canonical identity of an identifier; none where nobody has it.
    pub fn root(&self, id: &Identifier) -> Option<Uuid> {
        self.roots.get(id).copied()
    }

    /// The canonical identity of a browser; none where nobody knows it.
    pub fn root_of_browser(&self, anonymous_id: &str) -> Option<Uuid> {
        self.root(&Identifier { kind: Kind::AnonymousId, value: anonymous_id.to_owned() })
    }

    /// The consent signals of a browser, from PostgreSQL: Redis may have missed a withdrawal while it was away.
    pub fn consent(&self, anonymous_id: &str) -> ConsentEntry {
        self.consents.get(anonymous_id).cloned().unwrap_or_else(|| cache_entries::consent_entry(None))
    }

    /// The schedule of a vendor that counts for a browser, be it another's.
    pub fn attempt(&self, canonical: Uuid, vendor: &str, browser: &str) -> Option<Attempt> {
        let (attempts, ties) = (self.attempts.get(&canonical)?, self.ties.get(&canonical)?);
        schedules::of(attempts, ties, Some(browser)).remove(vendor)
    }

    /// The schedule of a vendor that is a browser's own.
    pub fn own_attempt(&self, canonical: Uuid, vendor: &str, browser: &str) -> Option<&Attempt> {
        self.attempts.get(&canonical)?.get(&(vendor.to_owned(), browser.to_owned()))
    }

    /// Enters a schedule in the place of the browser's earlier one.
    pub fn schedule(&mut self, canonical: Uuid, vendor: &str, browser: &str, attempt: Attempt) {
        let of = (vendor.to_owned(), browser.to_owned());
        self.attempts.entry(canonical).or_default().insert(of.clone(), attempt.clone());
        self.new_attempts.insert((canonical, of), attempt);
    }

    /// Uses up the states of a browser and vendor that were issued until `issued_at`. False where that one was used
    /// before.
    pub fn use_state(&mut self, anonymous_id: &str, vendor: &str, issued_at: OffsetDateTime) -> bool {
        let pair = (anonymous_id.to_owned(), vendor.to_owned());
        if self.used.get(&pair).is_some_and(|used| *used >= issued_at) {
            return false;
        }
        self.used.insert(pair.clone(), issued_at);
        self.new_used.insert(pair, issued_at);
        true
    }

    /// The ID of an owner in a field, that of an earlier write of this transaction included.
    pub fn stored(&self, canonical: Uuid, field: &str, owner: &Owner) -> Option<Cow<'_, StoredId>> {
        let newer = self.new_ids.get(&(canonical, field.to_owned(), owner.clone()));
        let newer = newer.map(|row| Cow::Owned(StoredId::of_row(row)));
        newer.or_else(|| self.stored.get(&(canonical, owner.clone()))?.get(field).map(Cow::Borrowed))
    }

    /// Enters an ID in the place of its owner's earlier one in the field.
    pub fn store(&mut self, row: VendorIdRow) {
        self.new_ids.insert((row.canonical_id, row.field.clone(), row.owner.clone()), row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_counts_once_and_none_that_is_older() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let mut ledger = Ledger::default();
        assert!(ledger.use_state("a", "x", at(2)));
        assert!(!ledger.use_state("a", "x", at(2)) && !ledger.use_state("a", "x", at(1)));
        assert!(ledger.use_state("a", "y", at(1)) && ledger.use_state("b", "x", at(1)));
        assert!(ledger.use_state("a", "x", at(3)));
        assert_eq!(ledger.new_used.len(), 3);
    }
}
