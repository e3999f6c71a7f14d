//! What a process remembers so that a known visitor's event needs no transaction to learn the same again. Neither is
//! ever answered as a fact about a person: forgetting it costs a transaction.

use std::hash::{BuildHasher, RandomState};

use proto::v1::RefusalReason;
use quick_cache::sync::Cache;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::identifiers::{Identifier, Kind};

/// Entries that are kept of each kind, of some 40 bytes.
const KEPT: usize = 200_000;

/// A browser's canonical identity, another's, and by what kind of identifier they were to be linked.
pub type Pair = (Uuid, Uuid, Kind);

/// Pairs of canonical identities that were refused to become one. It holds for the day: who has a user keeps it, and
/// tomorrow there are new links to be had. Logins are apart from what else links browsers: a browser moves to a user
/// with whose identity its own may not merge.
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
    pub fn get(&self, org: Uuid, pair: &Pair, now: OffsetDateTime) -> Option<RefusalReason> {
        self.kept.get(&self.place(org, pair, now))
    }

    /// They were.
    pub fn learn(&self, org: Uuid, pair: &Pair, now: OffsetDateTime, reason: RefusalReason) {
        self.kept.insert(self.place(org, pair, now), reason);
    }

    fn place(&self, org: Uuid, pair: &Pair, now: OffsetDateTime) -> u64 {
        self.hasher.hash_one((org, pair, now.date()))
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
