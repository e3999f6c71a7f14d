//! A bounded cache that knows its keys by a keyed hash alone: what is kept of a person is a number that means nothing
//! outside this process. Two keys share a place once in 2^64 pairs:
//! then a refusal is told that was not asked for again, or something is stored an event later.

use std::hash::{BuildHasher, Hash, RandomState};

use quick_cache::sync::Cache;

/// The cache, of one kind of pairs.
pub struct HashCache<V> {
    hasher: RandomState,
    kept: Cache<u64, V>,
}

impl<V: Clone> HashCache<V> {
    /// An empty cache of at most `entries` entries.
    pub fn new(entries: usize) -> Self {
        Self { hasher: RandomState::new(), kept: Cache::new(entries) }
    }

    /// The value of `key`, or of another key in its place.
    pub fn get(&self, key: &impl Hash) -> Option<V> {
        self.kept.get(&self.hash(key))
    }

    /// Puts `value` in the place of `key`.
    pub fn insert(&self, key: &impl Hash, value: V) {
        self.kept.insert(self.hash(key), value);
    }

    /// Forgets the value of `key`.
    pub fn remove(&self, key: &impl Hash) {
        self.kept.remove(&self.hash(key));
    }

    /// The keyed hash of anything, which differs from process to process.
    pub fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }
}
