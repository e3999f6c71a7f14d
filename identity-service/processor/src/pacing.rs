//! Pacing: how many requests a second a destination is sent, by what it says of it.

use std::time::Duration;

use tokio::time::Instant;

/// Share of the rate that is left after the destination said that it was too much.
const LESS: f64 = 0.7;
/// Growth of the rate in a second without that.
const MORE: f64 = 1.05;
/// Rate below which it is not brought.
const LEAST: f64 = 5.0;
/// Longest pause that is not asked for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The pace of a destination.
#[derive(Debug)]
pub struct Pacing {
    most: f64,
    rate: f64,
    tokens: f64,
    filled: Instant,
    changed: Instant,
    paused_until: Option<Instant>,
    /// Refusals in a row.
    refusals: u32,
}

impl Pacing {
    /// The pace of a destination that takes so many a second.
    pub fn new(most: u32, now: Instant) -> Self {
        let most = f64::from(most.max(1));
        Self { most, rate: most, tokens: 1.0, filled: now, changed: now, paused_until: None, refusals: 0 }
    }

    /// Changes how many it takes at most.
    pub fn set_most(&mut self, most: u32) {
        self.most = f64::from(most.max(1));
        self.rate = self.rate.min(self.most);
    }

    /// Requests a second that it is sent at most now.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes the place of one request; none where it is too early, with the time at which there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(until) = self.paused_until {
            if now < until {
                return Err(until);
            }
            self.paused_until = None;
        }
        let grown = now.saturating_duration_since(self.changed).as_secs_f64();
        if grown >= 1.0 && self.rate < self.most {
            self.rate = (self.rate * MORE.powf(grown)).min(self.most);
            self.changed = now;
        }
        let burst = (self.rate / 10.0).max(1.0);
        let filled = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + filled).min(burst);
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }

    /// Notes that the destination took one.
    pub fn note_success(&mut self) {
        self.refusals = 0;
    }

    /// Notes that it was too much, and rests for as long as was asked for, else longer each time.
    pub fn note_refusal(&mut self, asked: Option<Duration>, jitter: f64, now: Instant) {
        if now.saturating_duration_since(self.changed) >= Duration::from_secs(1) || self.refusals == 0 {
            self.rate = (self.rate * LESS).max(LEAST.min(self.most));
            self.changed = now;
        }
        self.refusals = self.refusals.saturating_add(1);
        let doubled = Duration::from_secs(1 << (self.refusals - 1).min(6)).min(LONGEST_PAUSE);
        let pause = asked.unwrap_or_else(|| doubled.mul_f64(jitter));
        let until = now + pause;
        self.paused_until = Some(self.paused_until.map_or(until, |known| known.max(until)));
    }
}

/// A factor of 0.8 to 1.2, so that many that wait alike do not come back at once.
pub fn jitter() -> f64 {
    rand::random_range(0.8..=1.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_falls_and_comes_back() {
        let now = Instant::now();
        let mut pacing = Pacing::new(400, now);
        let sent = |pacing: &mut Pacing, from: Instant, seconds: u64| {
            (0..seconds * 10_000)
                .filter(|step| pacing.take(from + Duration::from_micros(step * 100)).is_ok())
                .count()
        };
        let first = sent(&mut pacing, now, 1);
        assert!((390..=445).contains(&first), "{first}");
        let later = now + Duration::from_secs(1);
        pacing.note_refusal(Some(Duration::from_secs(3)), 1.0, later);
        assert_eq!(sent(&mut pacing, later, 2), 0);
        assert_eq!(pacing.take(later + Duration::from_secs(2)), Err(later + Duration::from_secs(3)));
        pacing.note_refusal(None, 1.0, later + Duration::from_millis(10));
        assert!((pacing.rate() - 280.0).abs() < 1.0, "at most once a second: {}", pacing.rate());
        for second in 3..40 {
            let _ = pacing.take(later + Duration::from_secs(second));
        }
        assert!((pacing.rate() - 400.0).abs() < 0.1);
        for second in 100..200 {
            pacing.note_refusal(None, 1.0, later + Duration::from_secs(second));
        }
        assert!((pacing.rate() - 5.0).abs() < 0.1);
    }
}
