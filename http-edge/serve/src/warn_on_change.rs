//! A warning once for a state of failure, however many requests meet it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Time without a failure after which the next failure is another state.
const QUIET_PERIOD: Duration = Duration::from_secs(10);

/// Instant of the last failure of a thing, if any.
#[derive(Debug, Default)]
pub struct FailureState(Mutex<Option<Instant>>);

impl FailureState {
    /// A thing that has not failed yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Takes note of a failure just now. True where it begins a state.
    pub fn begins(&self) -> bool {
        self.begins_at(Instant::now())
    }

    fn begins_at(&self, now: Instant) -> bool {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= QUIET_PERIOD)
    }
}

/// Logs a failure that comes again and again while a store or the core is away: at the level given when it
/// begins, and at debug until it has not come for ten seconds. The place in the code tells one kind of
/// failure from another: `warn_on_change!(WARN, %error, "not stored")`.
#[macro_export]
macro_rules! warn_on_change {
    ($level:ident, $($line:tt)*) => {{
        static STATE: $crate::FailureState = $crate::FailureState::new();
        if STATE.begins() {
            ::tracing::event!(::tracing::Level::$level, $($line)*);
        } else {
            ::tracing::event!(::tracing::Level::DEBUG, $($line)*);
        }
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_begins_once_and_ends_when_nothing_failed_for_a_while() {
        let (state, began) = (FailureState::new(), Instant::now());
        let begins = |seconds| state.begins_at(began + Duration::from_secs(seconds));
        assert!(begins(0));
        assert!(!begins(9) && !begins(18) && !begins(18));
        assert!(begins(28));
    }
}
