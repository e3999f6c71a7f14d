//! What comes of a request to a destination.

use std::time::{Duration, SystemTime};

use egress::{Answer, CallError, retry_after};

/// What comes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has the event.
    Delivered {
        /// True where it says that it drops what it is sent.
        dropping: bool,
    },
    /// This event is never taken.
    Refused(&'static str),
    /// No event is taken until something is changed.
    Paused {
        /// The reason, for people.
        reason: &'static str,
        /// The time after which one event is tried all the same; none: not before the settings change.
        probe: Option<Duration>,
    },
    /// Too many were sent.
    RateLimited(Option<Duration>),
    /// It may be taken later.
    Failed {
        /// The reason, for people.
        reason: &'static str,
        /// The time before which it makes no sense.
        retry_after: Option<Duration>,
    },
}

/// Time after which a destination that is not there, or may not be called, is tried again.
const RARE_PROBE: Duration = Duration::from_mins(5);

impl Outcome {
    /// A failure that says nothing about when.
    pub(crate) fn failed(reason: &'static str) -> Self {
        Self::Failed { reason, retry_after: None }
    }

    /// What a call comes to that was not answered.
    pub(crate) fn of_error(error: CallError) -> Self {
        match error {
            CallError::NotAllowed => Self::Paused { reason: "not_allowed", probe: Some(RARE_PROBE) },
            CallError::Timeout => Self::failed("timeout"),
            CallError::NoSuchHost => Self::failed("no_such_host"),
            CallError::Network => Self::failed("network"),
            CallError::TooLarge => Self::failed("too_large"),
        }
    }

    /// What an answer comes to whose status means the same everywhere; none for the destination's own to say.
    pub(crate) fn of_status(answer: &Answer, now: SystemTime) -> Option<Self> {
        Some(match answer.status.as_u16() {
            401 => Self::Paused { reason: "credentials", probe: None },
            403 => Self::Paused { reason: "forbidden", probe: None },
            404 => Self::Paused { reason: "not_found", probe: Some(RARE_PROBE) },
            429 => Self::RateLimited(retry_after::read(&answer.headers, now)),
            408 | 500..=599 | 100..=199 | 300..=399 => {
                let retry_after = retry_after::read(&answer.headers, now);
                Self::Failed { reason: "status", retry_after }
            }
            _ => return None,
        })
    }
}
