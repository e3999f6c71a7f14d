//! Room on a full listener. Idle sockets must not keep others out, so the ones that waited longest for a request
//! go first, as nginx does with its reusable connections; what is in flight is never cut.

use std::sync::{Arc, Weak};

use super::watch::Watch;

/// The share of all connections that is ended at once, so that a flood does not have all of them looked at for
/// each new one.
const BATCH: usize = 64;

/// The connections of a listener.
pub(super) struct Crowd {
    limit: usize,
    all: Vec<Weak<Watch>>,
}

impl Crowd {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, all: Vec::new() }
    }

    pub(super) fn join(&mut self, watch: &Arc<Watch>) {
        if self.all.len() >= self.limit.saturating_mul(2) {
            self.all.retain(|watch| watch.strong_count() > 0);
        }
        self.all.push(Arc::downgrade(watch));
    }

    /// Ends those that have waited longest.
    pub(super) fn thin_out(&mut self) {
        let live = self.all.iter().filter_map(Weak::upgrade);
        let mut waiting: Vec<_> = live.filter_map(|watch| Some((watch.waiting()?, watch))).collect();
        waiting.sort_unstable_by_key(|(since, _)| *since);
        for (_, watch) in waiting.iter().take(self.limit.div_ceil(BATCH)) {
            watch.full.notify_one();
        }
    }
}
