//! Pairs that a process remembers so that a known visitor's event needs no transaction to learn the same
//! again. Neither kind is ever answered as a fact about a person: forgetting one costs a transaction.

use uuid::Uuid;

use super::hash_cache::HashCache;
use crate::{graph::transaction::Apart, identifiers::Identifier};

/// Number of pairs that are kept of each kind, of some 40 bytes each.
const KEPT: usize = 200_000;

/// Pairs of canonical identities that stay apart, whatever cookie brings them together: each has a user, or one began by
/// a reset of the other. A shared device would ask for it with every event.
pub struct ApartPairs(HashCache<Apart>);

impl Default for ApartPairs {
    fn default() -> Self {
        Self(HashCache::new(KEPT))
    }
}

impl ApartPairs {
    /// The reason for which an event's identity and its cookie's are known to stay apart.
    pub fn get(&self, org: Uuid, own: Uuid, cookie: Uuid) -> Option<Apart> {
        self.0.get(&(org, own, cookie))
    }

    /// Learns that an event's identity and its cookie's stay apart.
    pub fn learn(&self, org: Uuid, own: Uuid, cookie: Uuid, why: Apart) {
        self.0.insert(&(org, own, cookie), why);
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
