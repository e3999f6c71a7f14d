//! How a destination fares: an outage is told from an event that it can't take, by whether others pass.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row, with no success between, after which a destination counts as down.
const MOST_FAILURES: u32 = 5;
/// Longest pause between tries of a destination that is down.
const LONGEST_PROBE: Duration = Duration::from_mins(1);

/// The state of a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It takes events.
    Active,
    /// Everything fails: one event is tried now and then.
    Down,
    /// It takes none until something changes.
    Paused {
        /// The reason.
        reason: &'static str,
    },
}

/// How a destination fares.
#[derive(Debug)]
pub struct Health {
    state: State,
    failures: u32,
    probes: u32,
    /// Time of the next try while it takes none; none: there is none.
    probe_at: Option<Instant>,
    /// Period of tries while it is paused; none: it is not tried.
    probe_every: Option<Duration>,
    last_success: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Active,
            failures: 0,
            probes: 0,
            probe_at: None,
            probe_every: None,
            last_success: None,
        }
    }
}

/// What is to be done about an event that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The event counts a failure.
    Event,
    /// The destination is down: no event is at fault.
    Outage,
}

impl Health {
    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The time of the next try of a destination that takes none; none where there is none, or it takes them.
    pub fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Most events that may be under way now.
    pub fn allowed(&self, most: usize, now: Instant) -> usize {
        match self.state {
            State::Active => most,
            State::Down | State::Paused { .. } => usize::from(self.probe_at.is_some_and(|at| now >= at)),
        }
    }

    /// Notes that an event was taken.
    pub fn note_success(&mut self, now: Instant) {
        *self = Self { last_success: Some(now), ..Self::default() };
    }

    /// Notes that an event failed whose first failure was at `failed_at`, and judges it.
    pub fn note_failure(&mut self, failed_at: Option<Instant>, jitter: f64, now: Instant) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        match self.state {
            State::Active => {
                let others_pass = || self.last_success > failed_at;
                // A second failure of the same event says nothing of it where nothing else passed since the first.
                let is_down = self.failures >= MOST_FAILURES || (failed_at.is_some() && !others_pass());
                if !is_down {
                    return Verdict::Event;
                }
                self.state = State::Down;
                self.probes = 0;
            }
            // What was under way before says nothing new.
            State::Down if self.probe_at.is_some_and(|at| now < at) => return Verdict::Outage,
            State::Down => {}
            State::Paused { .. } => {
                self.probe_at = self.probe_every.map(|every| now + every);
                return Verdict::Outage;
            }
        }
        let pause = Duration::from_secs(1 << self.probes.min(6)).min(LONGEST_PROBE);
        self.probes = self.probes.saturating_add(1);
        self.probe_at = Some(now + pause.mul_f64(jitter));
        Verdict::Outage
    }

    /// Notes that no event is taken until something changes, but for a try after `probe`.
    pub fn pause(&mut self, reason: &'static str, probe: Option<Duration>, now: Instant) {
        self.state = State::Paused { reason };
        self.probe_every = probe;
        self.probe_at = probe.map(|after| now + after);
    }

    /// Begins anew, as settings have changed.
    pub fn reset(&mut self) {
        let last_success = self.last_success;
        *self = Self { last_success, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_among_others_that_pass_is_at_fault() {
        let (mut health, now) = (Health::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        health.note_success(at(0));
        assert_eq!(health.note_failure(None, 1.0, at(1)), Verdict::Event);
        health.note_success(at(2));
        assert_eq!(health.note_failure(Some(at(1)), 1.0, at(5)), Verdict::Event);
        assert_eq!(health.allowed(64, at(5)), 64);
    }

    #[test]
    fn where_nothing_passes_the_destination_is_down_and_tried_less_and_less() {
        let (mut health, now) = (Health::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        for _ in 1..MOST_FAILURES {
            assert_eq!(health.note_failure(None, 1.0, at(0)), Verdict::Event);
        }
        assert_eq!(health.note_failure(None, 1.0, at(0)), Verdict::Outage);
        assert_eq!((health.allowed(64, at(0)), health.allowed(64, at(1))), (0, 1));
        for _ in 0..64 {
            assert_eq!(health.note_failure(None, 1.0, at(0)), Verdict::Outage, "it was under way");
        }
        assert_eq!(health.allowed(64, at(1)), 1);
        let mut seconds = 1;
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(health.note_failure(None, 1.0, at(seconds)), Verdict::Outage);
            assert_eq!(health.probe_at(), Some(at(seconds + pause)));
            seconds += pause;
        }
        health.note_success(at(seconds));
        assert_eq!((health.state(), health.allowed(64, at(seconds))), (&State::Active, 64));
        // One event alone, twice.
        assert_eq!(health.note_failure(None, 1.0, at(400)), Verdict::Event);
        assert_eq!(health.note_failure(Some(at(400)), 1.0, at(404)), Verdict::Outage);
    }

    #[test]
    fn a_pause_ends_by_itself_only_where_it_is_tried() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.pause("credentials", None, now);
        assert_eq!(health.allowed(64, now + Duration::from_hours(100)), 0);
        health.reset();
        assert_eq!(health.allowed(64, now), 64);
        health.pause("rejected", Some(Duration::from_mins(1)), now);
        let later = now + Duration::from_mins(1);
        assert_eq!((health.allowed(64, now), health.allowed(64, later)), (0, 1));
        assert_eq!(health.note_failure(None, 1.0, later), Verdict::Outage);
        assert_eq!((health.allowed(64, later), health.allowed(64, later + Duration::from_mins(1))), (0, 1));
    }
}
