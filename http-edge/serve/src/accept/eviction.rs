//! Room on a full listener. Idle sockets must not keep others out, so the ones that waited longest for a
//! request go first, as nginx does with its reusable connections; what is in flight is never cut.

use std::sync::{Arc, Weak};

use super::connection_state::ConnectionState;

/// Divisor of a listener's limit that gives how many connections are ended at once, so that a flood does not
/// have all of them looked at for each new one.
const BATCH_DIVISOR: usize = 64;

/// Connections of a listener, of which the longest waiting can be ended.
pub(super) struct Evictor {
    limit: usize,
    all: Vec<Weak<ConnectionState>>,
}

impl Evictor {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, all: Vec::new() }
    }

    pub(super) fn add(&mut self, state: &Arc<ConnectionState>) {
        if self.all.len() >= self.limit.saturating_mul(2) {
            self.all.retain(|state| state.strong_count() > 0);
        }
        self.all.push(Arc::downgrade(state));
    }

    /// Ends the connections that have waited longest for a request.
    pub(super) fn evict_longest_waiting(&mut self) {
        let live = self.all.iter().filter_map(Weak::upgrade);
        let mut waiting: Vec<_> = live.filter_map(|state| Some((state.waiting()?, state))).collect();
        waiting.sort_unstable_by_key(|(since, _)| *since);
        for (_, state) in waiting.iter().take(self.limit.div_ceil(BATCH_DIVISOR)) {
            state.full.notify_one();
        }
    }
}
