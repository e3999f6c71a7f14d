//! The ledger of one transaction: what is stored for the visitors of one organisation goes in, each producer
//! decides in its turn and enters what it changes, and what is to be stored comes out. Pure, however many
//! writes concern one visitor.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use time::OffsetDateTime;
use uuid::Uuid;

use super::stored::{StoredId, StoredIds};
use crate::storage::{
    attempt::Attempt,
    cache_entries::{self, ConsentEntry},
    postgres::rows::{BrowserAndVendor, VendorIdRow},
};

/// The ledger: what is stored, and what has changed of it.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Locked roots by browser.
    pub roots: HashMap<String, Uuid>,
    /// Stored consent by browser.
    pub consents: HashMap<String, ConsentEntry>,
    /// Stored schedules by canonical identity and vendor, those that changed included.
    pub attempts: HashMap<Uuid, BTreeMap<String, Attempt>>,
    /// Stored vendor IDs, where a producer asks for them.
    pub stored: HashMap<Uuid, StoredIds>,
    /// Issue times up to which sync states do not count any more.
    pub used: HashMap<BrowserAndVendor, OffsetDateTime>,
    /// States that were used up.
    pub new_used: BTreeMap<BrowserAndVendor, OffsetDateTime>,
    /// Schedules that changed in this transaction.
    pub new_attempts: BTreeMap<(Uuid, String), Attempt>,
    /// IDs that came, by canonical identity and field.
    pub new_ids: BTreeMap<(Uuid, &'static str), VendorIdRow>,
}

impl Ledger {
    /// The canonical identity of a browser; none where nobody knows it.
    pub fn root(&self, anonymous_id: &str) -> Option<Uuid> {
        self.roots.get(anonymous_id).copied()
    }

    /// The consent signals of a browser, from PostgreSQL: Redis may have missed a withdrawal while it was away.
    pub fn consent(&self, anonymous_id: &str) -> ConsentEntry {
        self.consents.get(anonymous_id).cloned().unwrap_or_else(|| cache_entries::consent_entry(None))
    }

    /// The schedule of a vendor for a canonical identity.
    pub fn attempt(&self, canonical: Uuid, vendor: &str) -> Option<&Attempt> {
        self.attempts.get(&canonical)?.get(vendor)
    }

    /// Enters a schedule in the place of the vendor's earlier one.
    pub fn schedule(&mut self, canonical: Uuid, vendor: &str, attempt: Attempt) {
        self.attempts.entry(canonical).or_default().insert(vendor.to_owned(), attempt.clone());
        self.new_attempts.insert((canonical, vendor.to_owned()), attempt);
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

    /// The ID in a field, that of an earlier write of this transaction included.
    pub fn stored(&self, canonical: Uuid, field: &'static str) -> Option<Cow<'_, StoredId>> {
        let newer = self.new_ids.get(&(canonical, field)).map(|row| Cow::Owned(StoredId::of_row(row)));
        newer.or_else(|| self.stored.get(&canonical)?.get(field).map(Cow::Borrowed))
    }

    /// Enters an ID in the place of the field's earlier one.
    pub fn store(&mut self, field: &'static str, row: VendorIdRow) {
        self.new_ids.insert((row.canonical_id, field), row);
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
