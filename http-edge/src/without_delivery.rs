//! Keys of sources whose events nobody takes, by the core's last word: their events need not be sent along. Where that has
//! changed the core says so, and keeps nothing of that request.

use std::sync::Arc;

use quick_cache::sync::Cache;

/// Most keys that are remembered.
const MAX_KEYS: usize = 20_000;

/// The keys, by hash; clones share them.
#[derive(Clone)]
pub struct WithoutDelivery(Arc<Cache<u64, ()>>);

impl Default for WithoutDelivery {
    fn default() -> Self {
        Self(Arc::new(Cache::new(MAX_KEYS)))
    }
}

impl WithoutDelivery {
    /// True where events of that key are known to go nowhere.
    pub fn contains(&self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }

    /// Notes what the core has said of a key, which was thought to be `known` as one of these.
    pub fn learn(&self, key: u64, known: bool, keeps_events: bool) {
        match (known, keeps_events) {
            (false, false) => self.0.insert(key, ()),
            (true, true) => drop(self.0.remove(&key)),
            (true, false) | (false, true) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let keys = WithoutDelivery::default();
        assert!(!keys.contains(1), "an unknown key's events are sent along");
        keys.learn(1, false, false);
        assert!(keys.contains(1) && !keys.contains(2));
        keys.learn(1, true, true);
        assert!(!keys.contains(1));
        keys.learn(2, false, true);
        assert!(!keys.contains(2));
    }
}
