//! Memory that request bodies share: a pool of all, of which no address and no key holds more than its share. Counters
//! alone, without a lock or an allocation, as every request of a visitor passes here.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use proto::v1::ErrorReason;

use crate::error::ApiError;

/// Bytes of all bodies being read or worked on, with their copies.
const MAX_BYTES: u32 = 16 * 1024 * 1024;
/// Counters of addresses, and as many of keys. Two that fall on one counter share it, which nobody can bring about:
/// the hashes are keyed at random.
const COUNTERS: usize = 16 * 1024;

/// The pool, with what is held of it; clones share it.
#[derive(Clone)]
pub struct Memory(Arc<Pool>);

struct Pool {
    /// Size of the pool in bytes.
    size: u32,
    all: AtomicU32,
    subscribers: Vec<AtomicU32>,
    keys: Vec<AtomicU32>,
}

/// Hashes of those for whom memory is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Hash of the subscriber; none where it may be anyone.
    pub subscriber: Option<u64>,
    /// Hash of the pipeline key.
    pub key: u64,
}

/// Sender of a body, as far as its memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// Signs nothing.
    No,
    /// Has a signature on it that may be worth nothing. Its copies are charged once it is whole, when they are made.
    Perhaps,
    /// Has signed well a moment ago: room for the copies is taken while it is read, so that it does not fail for them
    /// in the end.
    Well,
}

/// Part of the pool, given back when it is dropped.
pub struct HeldMemory {
    pool: Arc<Pool>,
    holder: Holder,
    bytes: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of(MAX_BYTES)
    }
}

impl Memory {
    /// Makes a pool of `size` bytes, of which a subscriber holds at most a quarter, in which the largest signed body
    /// fits, and a key at most half.
    pub fn of(size: u32) -> Self {
        let counters = || (0..COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self(Arc::new(Pool { size, all: AtomicU32::new(0), subscribers: counters(), keys: counters() }))
    }

    /// Begins to hold memory for `holder`, nothing yet.
    pub fn hold(&self, holder: Holder) -> HeldMemory {
        HeldMemory { pool: self.0.clone(), holder, bytes: 0 }
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub fn held(&self) -> u32 {
        self.0.all.load(Ordering::Relaxed)
    }
}

impl Pool {
    /// Counters on which the memory of `holder` counts, with their bounds.
    fn counters(&self, holder: Holder) -> [Option<(&AtomicU32, u32)>; 3] {
        let subscriber = holder.subscriber.and_then(|hash| counter(&self.subscribers, hash));
        [
            subscriber.map(|counter| (counter, self.size / 4)),
            counter(&self.keys, holder.key).map(|counter| (counter, self.size / 2)),
            Some((&self.all, self.size)),
        ]
    }
}

fn counter(counters: &[AtomicU32], hash: u64) -> Option<&AtomicU32> {
    let [high, low, ..] = hash.to_be_bytes();
    counters.get(usize::from(u16::from_be_bytes([high, low])) % COUNTERS)
}

impl HeldMemory {
    /// Takes `bytes` more; OVERLOADED where there is no room, of all or of a share.
    pub fn grow(&mut self, bytes: u32) -> Result<(), ApiError> {
        let counters = self.pool.counters(self.holder);
        for (taken, counter) in counters.iter().enumerate() {
            let Some((counter, most)) = counter else { continue };
            let more = |held: u32| held.checked_add(bytes).filter(|held| held <= most);
            if counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
                give_back(counters.into_iter().take(taken), bytes);
                return Err(ErrorReason::Overloaded.into());
            }
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        give_back(self.pool.counters(self.holder).into_iter(), self.bytes);
    }
}

fn give_back<'a>(counters: impl Iterator<Item = Option<(&'a AtomicU32, u32)>>, bytes: u32) {
    for (counter, _) in counters.flatten() {
        counter.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(subscriber: u64, key: u64) -> Holder {
        Holder { subscriber: Some(subscriber << 48), key: key << 48 }
    }

    #[test]
    fn shares_are_bounded_and_given_back() {
        let memory = Memory::of(1000);
        let mut first = memory.hold(holder(1, 1));
        first.grow(250).unwrap();
        first.grow(1).unwrap_err();
        let mut same_address = memory.hold(holder(1, 2));
        same_address.grow(1).unwrap_err();
        let mut same_key = memory.hold(holder(2, 1));
        same_key.grow(250).unwrap();
        memory.hold(holder(3, 1)).grow(1).unwrap_err();
        // Behind a proxy that names nobody the key's share is all that counts.
        let mut anyone = memory.hold(Holder { subscriber: None, key: 2 << 48 });
        anyone.grow(500).unwrap();
        assert_eq!(memory.held(), 1000);
        memory.hold(holder(4, 4)).grow(1).unwrap_err();
        drop(first);
        assert_eq!(memory.held(), 750);
        same_address.grow(1).unwrap_err();
        drop(anyone);
        same_address.grow(250).unwrap();
        drop((same_address, same_key));
        assert_eq!(memory.held(), 0);
        memory.hold(holder(1, 1)).grow(250).unwrap();
    }
}
