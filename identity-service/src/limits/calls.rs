//! The limit on calls that the core works on at once. More are refused before any part of them is decoded:
//! what waits takes memory, and is answered too late.

use metrics::counter;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Most calls at once. A warm one takes under a millisecond, so this many wait only where a store is slow;
/// there they are as many as PostgreSQL's pool answers within its 250 ms.
const CALLS: usize = 4096;

/// The limit on calls, with its places.
pub struct Calls(Semaphore);

impl Default for Calls {
    fn default() -> Self {
        Self(Semaphore::new(CALLS))
    }
}

impl Calls {
    /// Takes a place, held until it is dropped; none where all are taken.
    pub fn enter(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.0.try_acquire().ok();
        if place.is_none() {
            counter!("datafly_shed_total", "by" => "core").increment(1);
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_beyond_the_bound_is_turned_away_until_something_ends() {
        let calls = Calls::default();
        let mut inside: Vec<_> = (0..CALLS).map(|_| calls.enter().unwrap()).collect();
        assert!(calls.enter().is_none());
        inside.pop();
        assert!(calls.enter().is_some());
    }
}
