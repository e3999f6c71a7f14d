//! Pairs that a process remembers so that a known visitor's event needs no transaction to learn the same
//! again. Neither kind is ever answered as a fact about a person: forgetting one costs a transaction.

use uuid::Uuid;

use crate::identifiers::Identifier;
use crate::storage::hash_cache::HashCache;

/// Number of pairs that are kept of each kind, of some 40 bytes each.
const KEPT: usize = 200_000;

/// Pairs of canonical identities that have different users. Who has a user keeps them, so the two are never merged; a
/// shared device would ask for it with every event.
pub struct DistinctUsers(HashCache<()>);

impl Default for DistinctUsers {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl DistinctUsers {
    /// True where the two are known to have different users.
    pub fn knows(&self, org: Uuid, one: Uuid, other: Uuid) -> bool {
        self.0.get(&(org, one.min(other), one.max(other))).is_some()
    }

    /// Learns that the two have different users.
    pub fn learn(&self, org: Uuid, one: Uuid, other: Uuid) {
        self.0.insert(&(org, one.min(other), one.max(other)), ());
    }
}

/// Users whose link to a canonical identity is stored as vouched for. A user never leaves it.
pub struct ProvenUsers(HashCache<()>);

impl Default for ProvenUsers {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl ProvenUsers {
    /// True where the user's link is known to be stored as vouched for.
    pub fn knows(&self, org: Uuid, user: &Identifier, canonical: Uuid) -> bool {
        self.0.get(&(org, user, canonical)).is_some()
    }

    /// Learns that the user's link was stored as vouched for.
    pub fn learn(&self, org: Uuid, user: &Identifier, canonical: Uuid) {
        self.0.insert(&(org, user, canonical), ());
    }
}
