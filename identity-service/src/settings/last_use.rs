//! The last use of pipeline keys, to the day, so that people who want to revoke one see whether it is in use.
//! Kept in memory and written now and then; what a process that dies had not written is lost.

use std::sync::atomic::{AtomicI32, Ordering};

use time::Date;

/// The last use of one key, and the last that was written, as Julian days; 0 is never.
#[derive(Debug, Default)]
pub struct LastUse {
    used: AtomicI32,
    written: AtomicI32,
}

impl LastUse {
    /// Notes that the key was used on `day`. Called on the way of every visitor: one load, but for the first
    /// of a day.
    pub fn mark(&self, day: Date) {
        let day = day.to_julian_day();
        if self.used.load(Ordering::Relaxed) < day {
            self.used.store(day, Ordering::Relaxed);
        }
    }

    /// Returns the day that is to be written, where there is one.
    pub fn unwritten(&self) -> Option<Date> {
        let used = self.used.load(Ordering::Relaxed);
        (used != self.written.load(Ordering::Relaxed)).then(|| Date::from_julian_day(used).ok()).flatten()
    }

    /// The day has been written.
    pub fn wrote(&self, day: Date) {
        self.written.store(day.to_julian_day(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn a_day_is_written_once() {
        let key = LastUse::default();
        assert_eq!(key.unwritten(), None);
        key.mark(date!(2026 - 11 - 21));
        key.mark(date!(2026 - 11 - 21));
        assert_eq!(key.unwritten(), Some(date!(2026 - 11 - 21)));
        key.written.store(date!(2026 - 11 - 21).to_julian_day(), Ordering::Relaxed);
        // A clock that was set back.
        key.mark(date!(2026 - 11 - 20));
        assert_eq!(key.unwritten(), None);
        key.mark(date!(2026 - 11 - 22));
        assert_eq!(key.unwritten(), Some(date!(2026 - 11 - 22)));
    }
}
