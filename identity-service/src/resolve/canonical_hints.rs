//! Hints at the canonical identity that an anonymous ID had last. A hint only decides what is read ahead and
//! is never answered from, so it needs no invalidation, and two IDs may share a place.

use std::hash::{BuildHasher, RandomState};

use quick_cache::sync::Cache;
use uuid::Uuid;

/// Hints that one process keeps, of some 40 bytes each.
const KEPT: usize = 500_000;

/// The hints of one process, by organisation and anonymous ID.
pub struct Guesses {
    hasher: RandomState,
    kept: Cache<u64, Uuid>,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { hasher: RandomState::new(), kept: Cache::new(KEPT) }
    }
}

impl Guesses {
    /// Looks up the canonical identity that the browser may have; none where no hint is kept.
    pub fn get(&self, org: Uuid, anonymous_id: &str) -> Option<Uuid> {
        self.kept.get(&self.place(org, anonymous_id))
    }

    /// Remembers the canonical identity that the browser was found to have.
    pub fn learn(&self, org: Uuid, anonymous_id: &str, canonical: Uuid) {
        self.kept.insert(self.place(org, anonymous_id), canonical);
    }

    fn place(&self, org: Uuid, anonymous_id: &str) -> u64 {
        self.hasher.hash_one((org, anonymous_id))
    }
}
