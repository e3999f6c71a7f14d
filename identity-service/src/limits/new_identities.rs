//! The limit on new identities of one address, so that nobody makes people by the million: each is rows in PostgreSQL.
//! What was taken for an identity that turns out to be known is given back.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::counter;
use quick_cache::sync::Cache;

/// Most addresses that are counted, of about 100 bytes each.
const ADDRESSES: usize = 50_000;
/// Microseconds that an identity takes: an address, behind which may be a whole office or a carrier's customers, may
/// bring a hundred a second.
const COST: u64 = 10_000;
/// Most identities that an address brings at once. More in one request cost no more, as it could never pass.
const BURST: u64 = 1000;

/// What each address has taken, as the generic cell rate algorithm keeps it: the time at which all of it is earned
/// again, in microseconds.
pub struct NewIdentities {
    addresses: Cache<IpAddr, Arc<AtomicU64>>,
    began: Instant,
}

/// Identities that were taken of an address's rate; what is not kept is given back when this is dropped.
pub struct Taken {
    earned_at: Arc<AtomicU64>,
    count: u64,
}

impl Default for NewIdentities {
    fn default() -> Self {
        Self { addresses: Cache::new(ADDRESSES), began: Instant::now() }
    }
}

impl NewIdentities {
    /// Takes `count` identities of an address's rate, all or none. The error is the time until they pass.
    pub fn take(&self, address: IpAddr, count: usize) -> Result<Taken, Duration> {
        let Ok(earned_at) =
            self.addresses.get_or_insert_with(&address, || Ok::<_, Infallible>(Arc::default()));
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let count = u64::try_from(count).unwrap_or(BURST).min(BURST);
        let latest = now.saturating_add(BURST * COST);
        let after = |at: u64| at.max(now).saturating_add(count * COST);
        let take = |at| Some(after(at)).filter(|at| *at <= latest);
        match earned_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(Taken { earned_at, count }),
            Err(at) => {
                counter!("datafly_new_identities_throttled_total").increment(1);
                Err(Duration::from_micros(after(at).saturating_sub(latest)))
            }
        }
    }
}

impl Taken {
    /// Keeps `count` of them, which were made.
    pub fn keep(mut self, count: usize) {
        self.count = self.count.saturating_sub(u64::try_from(count).unwrap_or(BURST));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let back = |at: u64| Some(at.saturating_sub(self.count * COST));
        // It can't fail, as each time is followed by another.
        let _ = self.earned_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_bring_a_thousand_and_what_was_known_costs_nothing() {
        let (limit, address) = (NewIdentities::default(), IpAddr::from([192, 0, 2, 1]));
        for _ in 0..50 {
            limit.take(address, 600).unwrap().keep(0);
        }
        limit.take(address, 999).unwrap().keep(999);
        // The test's own time may have earned some.
        let delay = loop {
            match limit.take(address, 500) {
                Ok(taken) => taken.keep(500),
                Err(delay) => break delay,
            }
        };
        assert!(delay <= Duration::from_secs(5), "{delay:?}");
        limit.take([192, 0, 2, 2].into(), 5000).unwrap().keep(5000);
        assert!(limit.take([192, 0, 2, 2].into(), 900).is_err());
    }
}
