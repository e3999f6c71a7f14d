//! Which canonical identity an anonymous ID had last. Only a guess: it decides what is read ahead and is never
//! answered from, so it needs no invalidation, and two IDs may share a place.

use std::hash::{BuildHasher, RandomState};

use quick_cache::sync::Cache;
use uuid::Uuid;

/// Guesses that are kept, of some 40 bytes each.
const KEPT: usize = 500_000;

/// The guesses of one process.
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
    /// Who that may be.
    pub fn get(&self, org: Uuid, anonymous_id: &str) -> Option<Uuid> {
        self.kept.get(&self.place(org, anonymous_id))
    }

    /// Who it was.
    pub fn learn(&self, org: Uuid, anonymous_id: &str, canonical: Uuid) {
        self.kept.insert(self.place(org, anonymous_id), canonical);
    }

    fn place(&self, org: Uuid, anonymous_id: &str) -> u64 {
        self.hasher.hash_one((org, anonymous_id))
    }
}
