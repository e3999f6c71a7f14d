//! Gates: each provider has places of its own, and one that has failed again and again is left alone for a while, so
//! that none of them holds up the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use uuid::Uuid;

/// Calls of one provider at once. At two seconds each, which is the most, these are 32 calls a second.
const CALLS: usize = 64;
/// Callers that wait for one provider at once, those whose calls they share included. All providers of a source together
/// stay below what an organisation may have at once.
const WAITERS: usize = 128;
/// Failures in a row after which a provider is left alone.
const FAILURES: u32 = 10;
/// Time for which it is left alone, at first; twice as long each time that it still fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest time for which it is left alone.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The gates of all providers, each made when it is first called.
#[derive(Default)]
pub struct Gates(Mutex<HashMap<Uuid, Arc<Gate>>>);

/// The gate of one provider.
pub struct Gate {
    places: Arc<Semaphore>,
    waiters: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
}

#[derive(Default)]
struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// The end of the pause; none while calls go through.
    until: Option<Instant>,
    /// True while one call tries whether the provider is back.
    is_trying: bool,
}

/// Whether a provider is called, by its failures of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls go through.
    Closed,
    /// Nobody calls.
    Open,
    /// One call tries whether it is back.
    HalfOpen,
}

/// The reason for staying outside, with the time after which another try makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy(pub Duration);

/// A call that was let in. One that ends without saying how counts as failed.
pub struct Call {
    gate: Arc<Gate>,
    _place: OwnedSemaphorePermit,
    is_settled: bool,
}

impl Gates {
    /// The gate of the provider whose settings have that ID.
    pub fn of(&self, provider: Uuid) -> Arc<Gate> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = || {
            Arc::new(Gate {
                places: Arc::new(Semaphore::new(CALLS)),
                waiters: Arc::new(Semaphore::new(WAITERS)),
                breaker: Mutex::default(),
            })
        };
        gates.entry(provider).or_insert_with(gate).clone()
    }
}

impl Gate {
    /// A place to wait in, until it is dropped.
    pub fn wait(&self) -> Result<OwnedSemaphorePermit, Busy> {
        self.waiters.clone().try_acquire_owned().map_err(|_| Busy(Duration::from_secs(1)))
    }

    /// Lets one call in.
    pub fn enter(self: &Arc<Self>) -> Result<Call, Busy> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Busy(Duration::from_secs(1)))?;
        self.breaker().enter(Instant::now())?;
        Ok(Call { gate: self.clone(), _place: place, is_settled: false })
    }

    /// The state of the breaker.
    pub fn state(&self) -> State {
        self.breaker().state(Instant::now())
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Breaker {
    /// Lets a call through, or says for how long none goes.
    fn enter(&mut self, now: Instant) -> Result<(), Busy> {
        let Some(until) = self.until else { return Ok(()) };
        if now < until || self.is_trying {
            return Err(Busy(until.saturating_duration_since(now).max(Duration::from_secs(1))));
        }
        self.is_trying = true;
        Ok(())
    }

    /// Takes what came of a call. True where the provider is left alone from now on.
    fn settle(&mut self, has_failed: bool, now: Instant) -> bool {
        if !has_failed {
            *self = Self::default();
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.is_trying = false;
        if let Some(further) = self.failures.checked_sub(FAILURES) {
            let pause = FIRST_PAUSE.saturating_mul(1 << further.min(8)).min(LONGEST_PAUSE);
            self.until = Some(now + pause);
        }
        self.until.is_some()
    }

    fn state(&self, now: Instant) -> State {
        match self.until {
            None => State::Closed,
            Some(until) if self.is_trying || now >= until => State::HalfOpen,
            Some(_) => State::Open,
        }
    }
}

impl Call {
    /// Ends the call. Failed is what tells that the provider is away: not a refusal, which is an answer. True where it is
    /// left alone from now on.
    pub fn end(mut self, has_failed: bool) -> bool {
        self.is_settled = true;
        self.gate.breaker().settle(has_failed, Instant::now())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_settled {
            self.gate.breaker().settle(true, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_again_and_again_is_left_alone_and_then_tried_once() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES {
            assert_eq!((breaker.state(start), breaker.enter(start)), (State::Closed, Ok(())));
            breaker.settle(true, start);
        }
        assert_eq!((breaker.state(start), breaker.enter(start)), (State::Open, Err(Busy(FIRST_PAUSE))));
        let then = start + FIRST_PAUSE;
        assert_eq!((breaker.enter(then), breaker.state(then)), (Ok(()), State::HalfOpen));
        assert!(breaker.enter(then).is_err(), "one alone");
        assert!(breaker.settle(true, then), "it still fails");
        assert_eq!(breaker.enter(then), Err(Busy(2 * FIRST_PAUSE)));
        let later = then + LONGEST_PAUSE;
        assert_eq!(breaker.enter(later), Ok(()));
        assert!(!breaker.settle(false, later));
        assert_eq!((breaker.state(later), breaker.enter(later)), (State::Closed, Ok(())));
        for _ in 0..100 {
            breaker.settle(true, later);
        }
        assert_eq!(breaker.enter(later), Err(Busy(LONGEST_PAUSE)));
    }

    #[tokio::test]
    async fn the_places_of_one_are_not_another_s() {
        let gates = Gates::default();
        let inside: Vec<Call> = (0..CALLS).map(|_| gates.of(Uuid::nil()).enter().ok().unwrap()).collect();
        assert!(gates.of(Uuid::nil()).enter().is_err());
        assert!(gates.of(Uuid::max()).enter().is_ok());
        for call in inside {
            call.end(false);
        }
        assert!(gates.of(Uuid::nil()).enter().is_ok());
    }
}
