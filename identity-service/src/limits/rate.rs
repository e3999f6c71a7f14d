//! The rate of a pipeline key: how many events a second it may bring. Each core grants it on its own, from
//! memory.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};

/// Events a second of a pipeline that sets none (the product's documented default).
const DEFAULT: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// Seconds' worth of events that may come at once after a pause. A key that is refused for a whole second, as
/// `Retry-After` has it, loses nothing of its rate that way.
const BURST_SECONDS: u32 = 2;
/// Most events that one request costs, and so the smallest burst: what could never pass would be refused for
/// ever.
const MAX_COST: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// The rate of one key, and what it has left.
#[derive(Debug)]
pub struct Rate {
    per_second: NonZeroU32,
    left: DefaultDirectRateLimiter,
}

impl Rate {
    /// Makes a rate with nothing taken from it. `per_second` below 1 or none: the default.
    pub fn new(per_second: Option<i32>) -> Self {
        let per_second = effective(per_second);
        let burst =
            per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1)).max(MAX_COST);
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Self { per_second, left: RateLimiter::direct(quota) }
    }

    /// True where this rate is what [`Rate::new`] makes of `per_second`.
    pub fn is(&self, per_second: Option<i32>) -> bool {
        self.per_second == effective(per_second)
    }

    /// Takes `cost` events, all or none. The error is the time until they pass.
    pub fn take(&self, cost: usize) -> Result<(), Duration> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX).clamp(1, MAX_COST.get());
        let Some(cost) = NonZeroU32::new(cost) else { return Ok(()) };
        match self.left.check_n(cost) {
            // The second can't be: no burst is smaller than a cost.
            Ok(Ok(())) | Err(_) => Ok(()),
            Ok(Err(not_until)) => {
                let delay = not_until.wait_time_from(DefaultClock::default().now());
                Err(delay.max(Duration::from_millis(1)))
            }
        }
    }
}

fn effective(per_second: Option<i32>) -> NonZeroU32 {
    per_second.and_then(|rate| u32::try_from(rate).ok()).and_then(NonZeroU32::new).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(rate: &Rate, cost: usize) -> Duration {
        rate.take(cost).unwrap_err()
    }

    #[test]
    fn a_request_costs_its_events_and_is_told_when_they_pass() {
        // So slow that the test's own time buys nothing.
        let rate = Rate::new(Some(1));
        rate.take(500).unwrap();
        rate.take(499).unwrap();
        let wait = delay(&rate, 500);
        assert!((Duration::from_secs(498)..=Duration::from_secs(499)).contains(&wait), "{wait:?}");
        rate.take(0).unwrap();
        assert!(delay(&rate, 1) <= Duration::from_secs(1));
        // Whatever a caller claims, it can pass some day.
        assert!(delay(&rate, usize::MAX) <= Duration::from_secs(1000));
    }

    #[test]
    fn the_rate_is_the_pipeline_s_or_the_default() {
        assert!(Rate::new(None).is(Some(1000)));
        assert!(!Rate::new(Some(5)).is(Some(6)));
        let rate = Rate::new(Some(1_000_000));
        for _ in 0..2000 {
            rate.take(1000).unwrap();
        }
    }
}
