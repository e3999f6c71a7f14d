//! Hints at the canonical identity that an anonymous ID had last. A hint only decides what is read ahead and is never
//! answered from, so it needs no invalidation.

use uuid::Uuid;

use super::hash_cache::HashCache;

/// Number of hints that are kept, of some 40 bytes each.
const KEPT: usize = 500_000;

/// The hints of one process.
pub struct CanonicalHints(HashCache<Uuid>);

impl Default for CanonicalHints {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl CanonicalHints {
    /// The canonical identity that the browser had last, probably.
    pub fn get(&self, org: Uuid, anonymous_id: &str) -> Option<Uuid> {
        self.0.get(&(org, anonymous_id))
    }

    /// Learns the canonical identity of a browser.
    pub fn learn(&self, org: Uuid, anonymous_id: &str, canonical: Uuid) {
        self.0.insert(&(org, anonymous_id), canonical);
    }
}
