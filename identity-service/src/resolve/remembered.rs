//! What a process remembers so that a known visitor's event needs no transaction to learn the same again. Neither is
//! ever answered as a fact about a person: forgetting it costs a transaction.

use std::hash::{BuildHasher, RandomState};

use proto::v1::RefusalReason;
use quick_cache::sync::Cache;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::identifiers::Identifier;

/// Entries that are kept of each kind, of some 40 bytes.
const KEPT: usize = 200_000;

/// Pairs of canonical identities that were refused to become one. It holds for the day: who has a user keeps it, and
/// tomorrow there are new links to be had.
pub struct Refused {
    hasher: RandomState,
    kept: Cache<u64, RefusalReason>,
}

impl Default for Refused {
    fn default() -> Self {
        Self { hasher: RandomState::new(), kept: Cache::new(KEPT) }
    }
}

impl Refused {
    /// Why the two were refused today.
    pub fn get(&self, org: Uuid, one: Uuid, other: Uuid, now: OffsetDateTime) -> Option<RefusalReason> {
        self.kept.get(&self.place(org, one, other, now))
    }

    /// They were.
    pub fn learn(&self, org: Uuid, one: Uuid, other: Uuid, now: OffsetDateTime, reason: RefusalReason) {
        self.kept.insert(self.place(org, one, other, now), reason);
    }

    fn place(&self, org: Uuid, one: Uuid, other: Uuid, now: OffsetDateTime) -> u64 {
        self.hasher.hash_one((org, one.min(other), one.max(other), now.date()))
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
