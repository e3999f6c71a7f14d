//! Deciding when a vendor is tried again. Pure: rows and the time go in, rows come out.

use time::{Duration, OffsetDateTime};

use crate::storage::attempt::{Attempt, Outcome, Period, UNANSWERED_WINDOW};

/// Wait after the vendor said that it has no ID (specification, "Vendor returns empty ID").
const AFTER_NO_ID: Duration = Duration::hours(24);
/// Back-off after the first, second, third and every later attempt.
const BACK_OFF: [Duration; 4] =
    [Duration::minutes(10), Duration::hours(1), Duration::hours(6), Duration::hours(24)];

/// The schedule of a browser once it is sent to the vendor. Tries without an answer go on from the schedule `before`
/// that counts for it, be it another browser's; the rest is of the browser's `own`.
pub fn attempted(
    before: Option<&Attempt>,
    own: Option<&Attempt>,
    ttl_days: i32,
    now: OffsetDateTime,
) -> Attempt {
    let running = before
        .filter(|a| a.attempts > 0)
        .and_then(|a| a.unanswered_since.map(|since| (a.attempts, since)))
        .filter(|(_, since)| now - *since < UNANSWERED_WINDOW);
    let (count, since) = running.unwrap_or((0, now));
    let index = usize::try_from(count).unwrap_or(0);
    let wait = BACK_OFF.get(index).or(BACK_OFF.last()).copied().unwrap_or(AFTER_NO_ID);
    Attempt {
        last_synced: own.and_then(|a| a.last_synced),
        ttl_days: own.and_then(|a| a.ttl_days),
        outcome: Outcome::Attempted,
        attempts: count + 1,
        unanswered_since: Some(since),
        next_at: not_before(own, now + wait),
        period: running_period(own, ttl_days, now).or(Some(Period { since: now, is_stored: false })),
    }
}

/// The period that runs: it ends when an ID would have ended that had come at its beginning.
pub fn running_period(own: Option<&Attempt>, ttl_days: i32, now: OffsetDateTime) -> Option<Period> {
    own?.period.filter(|period| now - period.since < Duration::days(i64::from(ttl_days)))
}

/// A try that nobody asked for does not bring the next one forward: an ID may be live until then.
fn not_before(before: Option<&Attempt>, next_at: OffsetDateTime) -> OffsetDateTime {
    before.map_or(next_at, |before| before.next_at.max(next_at))
}

/// The period once an ID is stored: the first one counts, the next one ends it.
fn answered_period(own: Option<&Attempt>) -> Option<Period> {
    own?.period.filter(|period| !period.is_stored).map(|period| Period { is_stored: true, ..period })
}

/// The schedule once the vendor's ID is stored for `ttl_days`. The next try comes up to 5 % before its end,
/// `jitter` (0..1) deciding how much, so that visitors of one day do not all return on one day.
pub fn stored(own: Option<&Attempt>, ttl_days: i32, now: OffsetDateTime, jitter: f64) -> Attempt {
    let ttl = Duration::days(i64::from(ttl_days));
    // Whole seconds: PostgreSQL keeps no more than microseconds.
    let early = Duration::seconds((ttl * (0.05 * jitter.clamp(0.0, 1.0))).whole_seconds());
    Attempt {
        last_synced: Some(now),
        ttl_days: Some(ttl_days),
        outcome: Outcome::Stored,
        attempts: 0,
        unanswered_since: None,
        next_at: now + ttl - early,
        period: answered_period(own),
    }
}

/// The schedule of a browser once the vendor has answered without an ID of its own, as `outcome` says.
pub fn without_id(own: Option<&Attempt>, outcome: Outcome, now: OffsetDateTime) -> Attempt {
    Attempt {
        last_synced: own.and_then(|a| a.last_synced),
        ttl_days: own.and_then(|a| a.ttl_days),
        outcome,
        attempts: 0,
        unanswered_since: None,
        next_at: not_before(own, now + AFTER_NO_ID),
        period: own.and_then(|own| own.period),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::storage::attempt::MAX_UNANSWERED;

    fn no_id(own: Option<&Attempt>, now: OffsetDateTime) -> Attempt {
        without_id(own, Outcome::NoId, now)
    }

    const NOW: OffsetDateTime = datetime!(2026-11-21 10:00 UTC);

    #[test]
    fn backs_off_and_gives_up_for_ninety_days() {
        let mut now = NOW;
        let mut row = None;
        let mut waits = Vec::new();
        for _ in 0..MAX_UNANSWERED {
            assert!(row.as_ref().is_none_or(|row: &Attempt| row.is_due(now)));
            let next = attempted(row.as_ref(), row.as_ref(), 90, now);
            waits.push((next.next_at - now).whole_minutes());
            now = next.next_at;
            row = Some(next);
        }
        assert_eq!(waits, [10, 60, 360, 1440, 1440, 1440, 1440, 1440]);
        let row = row.unwrap();
        assert!(row.is_exhausted(now) && !row.is_due(now));
        let later = NOW + UNANSWERED_WINDOW;
        assert!(row.is_due(later));
        assert_eq!(attempted(Some(&row), None, 90, later).attempts, 1);
    }

    #[test]
    fn an_answer_starts_the_count_anew() {
        let tried = attempted(None, None, 90, NOW);
        let kept = stored(None, 90, NOW, 0.0);
        assert_eq!(kept.next_at, NOW + Duration::days(90));
        assert_eq!(stored(None, 90, NOW, 1.0).next_at, NOW + Duration::days(90) * 0.95);
        assert!(!kept.is_due(NOW + Duration::days(89)) && kept.is_due(NOW + Duration::days(90)));
        assert_eq!(attempted(Some(&kept), Some(&kept), 90, NOW).attempts, 1);
        assert_eq!(
            attempted(Some(&kept), Some(&kept), 90, NOW).next_at,
            kept.next_at,
            "a live ID is not synced anew"
        );
        assert_eq!(no_id(Some(&attempted(Some(&kept), Some(&kept), 90, NOW)), NOW).next_at, kept.next_at);
        assert_eq!(no_id(Some(&tried), NOW).next_at, NOW + Duration::hours(24));
        assert_eq!(attempted(Some(&no_id(Some(&tried), NOW)), None, 90, NOW).attempts, 1);
    }

    #[test]
    fn tries_of_one_period_count_once_and_so_does_its_id() {
        let day = Duration::days(1);
        let begins = |own: Option<&Attempt>, now| running_period(own, 90, now).is_none();
        assert!(begins(None, NOW));
        let first = attempted(None, None, 90, NOW);
        let second = attempted(Some(&first), Some(&first), 90, NOW + day);
        assert_eq!(
            (begins(Some(&first), NOW + day), second.period),
            (false, first.period),
            "a blocked browser"
        );
        // At whichever try it comes.
        let kept = stored(Some(&second), 90, NOW + day * 2, 0.0);
        assert_eq!(kept.period, Some(Period { since: NOW, is_stored: true }));
        // It is refreshed a little early: that belongs to it, and ends it.
        let early = NOW + day * 89;
        assert!(!begins(Some(&kept), early));
        let refreshed = stored(Some(&attempted(Some(&kept), Some(&kept), 90, early)), 90, early, 0.0);
        assert!(refreshed.period.is_none() && begins(Some(&refreshed), early + day));
        // One in which nothing came ends by itself.
        assert!(begins(Some(&second), NOW + day * 90));
    }
}
