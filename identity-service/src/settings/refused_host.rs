//! The last host by which a source's keys were refused, so that people who wonder why nothing arrives see it. Kept in
//! memory and written now and then.

use std::sync::{Mutex, PoisonError};

use time::{Date, Duration, OffsetDateTime};

/// Most characters of a host that are kept: it is whatever somebody sent.
const MAX_HOST_CHARS: usize = 100;
/// Shortest time between two log lines about one source.
const LOG_INTERVAL: Duration = Duration::MINUTE;

/// The last refused host of one source.
#[derive(Debug, Default)]
pub struct RefusedHost(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<(String, Date)>,
    is_written: bool,
    logged_at: Option<OffsetDateTime>,
}

impl RefusedHost {
    /// Notes that a call by `host` was refused, and returns what there is to log of it, if a line is due.
    pub fn note(&self, host: &str, now: OffsetDateTime) -> Option<String> {
        let host: String = host.chars().filter(|c| !c.is_control()).take(MAX_HOST_CHARS).collect();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = Some((host, now.date()));
        if state.last != last {
            state.last = last;
            state.is_written = false;
        }
        let is_due = state.logged_at.is_none_or(|at| (now - at).abs() >= LOG_INTERVAL);
        if !is_due {
            return None;
        }
        state.logged_at = Some(now);
        state.last.as_ref().map(|(host, _)| host.clone())
    }

    /// Returns the host, with the day, that is to be written, where there is one.
    pub fn unwritten(&self) -> Option<(String, Date)> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.clone().filter(|_| !state.is_written)
    }

    /// Notes that the host has been written.
    pub fn wrote(&self, host: &(String, Date)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_written = state.last.as_ref() == Some(host);
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_last_is_written_once_and_a_line_comes_each_minute() {
        let (refused, now) = (RefusedHost::default(), datetime!(2026-11-29 12:00 UTC));
        assert_eq!(refused.unwritten(), None);
        assert_eq!(refused.note("a.example", now).as_deref(), Some("a.example"));
        assert_eq!(refused.note("b.example", now + Duration::seconds(59)), None);
        let last = ("b.example".to_owned(), now.date());
        assert_eq!(refused.unwritten().as_ref(), Some(&last));
        refused.wrote(&("a.example".to_owned(), now.date()));
        assert!(refused.unwritten().is_some(), "another came meanwhile");
        refused.wrote(&last);
        assert_eq!(refused.unwritten(), None);
        assert_eq!(refused.note("b.example", now + LOG_INTERVAL).as_deref(), Some("b.example"));
        assert_eq!(refused.unwritten(), None, "the same on the same day");
        refused.note("b.example", now + Duration::DAY);
        assert!(refused.unwritten().is_some());
    }

    #[test]
    fn what_is_kept_is_bounded_and_of_one_line() {
        let refused = RefusedHost::default();
        let told = refused.note(&format!("a\nb{}", "é".repeat(200)), datetime!(2026-11-29 12:00 UTC));
        assert_eq!(told, Some(format!("ab{}", "é".repeat(98))));
    }
}
