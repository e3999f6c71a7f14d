//! Places of a listener. An address has a share of them, and where that or the listener is full, whoever waits for a
//! request, or holds up the requests it has made, makes room: those that did so longest go first, as nginx does with
//! its reusable connections. What we are at work on is never cut.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    ACCEPT_BACKOFF, Exempt,
    connection_state::{ConnectionState, EndReason, Timing},
};
use crate::proxies::network;

/// Divisor of a listener's limit that gives an address's share of it.
const SHARE_DIVISOR: usize = 16;
/// Divisor of a listener's limit that gives how many connections are ended at once, so that a flood does not
/// have all of them looked at for each new one.
const BATCH_DIVISOR: usize = 64;

/// Places of a listener, with the connections that have them by address.
pub(super) struct Places {
    limit: usize,
    exempt: Exempt,
    timing: Timing,
    permits: Arc<Semaphore>,
    neighbours: HashMap<IpAddr, Neighbours>,
}

/// Connections of one address, an IPv6 /64 as one.
#[derive(Default)]
struct Neighbours {
    /// Number of connections that count on the address's share.
    counted: Arc<AtomicUsize>,
    connections: Vec<Weak<ConnectionState>>,
}

/// Place of a connection, free again when it is dropped.
pub(super) struct Place {
    pub(super) state: Arc<ConnectionState>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.discount();
    }
}

impl Places {
    pub(super) fn new(limit: usize, exempt: Exempt, timing: Timing) -> Self {
        let permits = Arc::new(Semaphore::new(limit));
        Self { limit, exempt, timing, permits, neighbours: HashMap::new() }
    }

    /// True where the service vouches for peers.
    pub(super) fn are_vouched_for(&self) -> bool {
        matches!(self.exempt, Exempt::Vouched)
    }

    /// Takes a place for one more connection of `peer`, and waits for it where the listener is full; none where its
    /// address has its share already, and nothing of that can be ended.
    pub(super) async fn take(&mut self, peer: IpAddr) -> Option<Place> {
        let share = (self.limit / SHARE_DIVISOR).max(1);
        let (address, counts) = (network(peer), !self.exempt.has(peer));
        if let Some(neighbours) = self.neighbours.get(&address).filter(|_| counts)
            && neighbours.counted.load(Ordering::Relaxed) >= share
            && !neighbours.end_longest()
        {
            return None;
        }
        let permit = self.room().await?;
        if self.neighbours.len() > self.limit.saturating_mul(2) {
            self.neighbours.retain(|_, neighbours| neighbours.is_any_left());
        }
        let neighbours = self.neighbours.entry(address).or_default();
        let state = ConnectionState::new(self.timing, counts.then(|| neighbours.counted.clone()));
        neighbours.add(&state);
        Some(Place { state, _permit: permit })
    }

    /// Takes one of all places; where there is none, connections are ended to make some.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Some(permit);
        }
        loop {
            self.end_some();
            if let Ok(permit) = timeout(ACCEPT_BACKOFF, self.permits.clone().acquire_owned()).await {
                return permit.ok();
            }
        }
    }

    /// Ends the connections that have waited or stalled longest.
    fn end_some(&self) {
        let all = self.neighbours.values().flat_map(|neighbours| &neighbours.connections);
        let mut idle: Vec<_> =
            all.filter_map(Weak::upgrade).filter_map(|state| Some((state.idle_since()?, state))).collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        for (_, state) in idle.iter().take(self.limit.div_ceil(BATCH_DIVISOR)) {
            state.end(EndReason::Full);
        }
    }
}

impl Neighbours {
    fn add(&mut self, state: &Arc<ConnectionState>) {
        // Before they are moved, so that it costs each a constant.
        if self.connections.len() == self.connections.capacity() {
            self.connections.retain(|state| state.strong_count() > 0);
            self.connections.reserve(self.connections.len().max(4));
        }
        self.connections.push(Arc::downgrade(state));
    }

    fn is_any_left(&self) -> bool {
        self.connections.iter().any(|state| state.strong_count() > 0)
    }

    /// Ends the one that has waited or stalled longest, if there is one.
    fn end_longest(&self) -> bool {
        let all = self.connections.iter().filter_map(Weak::upgrade);
        let idle = all.filter_map(|state| Some((state.idle_since()?, state)));
        let longest = idle.min_by_key(|(since, _)| *since);
        longest.inspect(|(_, state)| state.end(EndReason::Address)).is_some()
    }
}
