//! Caches that spare a known visitor's event the transaction in which it would learn the same again. Neither
//! is ever answered as a fact about a person: forgetting costs a transaction and no more.

use std::hash::{BuildHasher, RandomState};

use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::identifiers::Identifier;

/// Entries of each cache, of some 40 bytes each.
const KEPT: usize = 200_000;

/// Pairs of canonical identities that belong to different users. An identity keeps its user, so the two are
/// never merged; a shared device would ask for it with every event.
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
    /// True where the two are known to belong to different users, in whatever order they are given.
    pub fn are(&self, org: Uuid, one: Uuid, other: Uuid) -> bool {
        self.kept.get(&self.place(org, one, other)).is_some()
    }

    /// Remembers that the two belong to different users.
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
    /// True where the link is known to be stored as vouched for.
    pub fn knows(&self, org: Uuid, user: &Identifier, canonical: Uuid) -> bool {
        self.kept.get(&self.hasher.hash_one((org, user, canonical))).is_some()
    }

    /// Remembers that the link has been stored as vouched for.
    pub fn learn(&self, org: Uuid, user: &Identifier, canonical: Uuid) {
        self.kept.insert(self.hasher.hash_one((org, user, canonical)), ());
    }
}
