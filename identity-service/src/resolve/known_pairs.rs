//! What a process remembers so that a known visitor's event needs no transaction to learn the same again. Neither is
//! ever answered as a fact about a person: forgetting it costs a transaction.

use std::hash::{BuildHasher, RandomState};

use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::identifiers::Identifier;

/// Entries that are kept of each kind, of some 40 bytes.
const KEPT: usize = 200_000;

/// Pairs of canonical identities that have different users. Who has one keeps it, so they are never merged; a shared
/// device would ask for it with every event.
pub struct Strangers {
    hasher: RandomState,
    kept: Cache<u64, ()>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { hasher: RandomState::new(), kept: Cache::new(KEPT) }
    }
}

impl Strangers {
    /// The two are known to be.
    pub fn are(&self, org: Uuid, one: Uuid, other: Uuid) -> bool {
        self.kept.get(&self.place(org, one, other)).is_some()
    }

    /// They are.
    pub fn learn(&self, org: Uuid, one: Uuid, other: Uuid) {
        self.kept.insert(self.place(org, one, other), ());
    }

    fn place(&self, org: Uuid, one: Uuid, other: Uuid) -> u64 {
        self.hasher.hash_one((org, one.min(other), one.max(other)))
    }
}

/// Users whose link to a canonical identity is stored as vouched for.
pub struct Vouched {
    hasher: RandomState,
    kept: Cache<u64, ()>,
}

impl Default for Vouched {
    fn default() -> Self {
        Self { hasher: RandomState::new(), kept: Cache::new(KEPT) }
    }
}

impl Vouched {
    /// It is stored.
    pub fn knows(&self, org: Uuid, user: &Identifier, canonical: Uuid) -> bool {
        self.kept.get(&self.hasher.hash_one((org, user, canonical))).is_some()
    }

    /// It was stored just now.
    pub fn learn(&self, org: Uuid, user: &Identifier, canonical: Uuid) {
        self.kept.insert(self.hasher.hash_one((org, user, canonical)), ());
    }
}
