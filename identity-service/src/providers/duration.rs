//! Lengths of time as settings write them: a whole number and a unit, `30d`, `500ms`.

use std::{ops::RangeInclusive, time::Duration};

/// Bounds of how long an ID may be kept.
pub const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(400 * 24);
/// Bounds of how long a customer's own provider may take to answer.
pub const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10);

/// Bounds of how long the event log keeps what every destination has had.
const EVENT_LOG: RangeInclusive<Duration> = Duration::from_hours(1)..=Duration::from_hours(7 * 24);

/// Parses the time for which the event log keeps events, 1h to 7d.
pub fn event_log(text: &str) -> Result<Duration, &'static str> {
    parse(text).filter(|time| EVENT_LOG.contains(time)).ok_or("must be 1h to 7d: a whole number and h or d")
}

/// Parses a time to live within [`TTL`].
pub fn ttl(text: &str) -> Result<Duration, &'static str> {
    parse(text)
        .filter(|ttl| TTL.contains(ttl))
        .ok_or("must be 1s to 400d: a whole number and ms, s, m, h or d")
}

/// Parses a timeout within [`TIMEOUT`].
pub fn timeout(text: &str) -> Result<Duration, &'static str> {
    let timeout = parse(text).filter(|timeout| TIMEOUT.contains(timeout));
    timeout.ok_or("must be 100ms to 10s: a whole number and ms or s")
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_and_their_bounds() {
        assert_eq!(ttl("30d"), Ok(Duration::from_hours(720)));
        assert_eq!((ttl("1s").is_ok(), ttl("400d").is_ok(), ttl("1000ms").is_ok()), (true, true, true));
        assert_eq!(
            (timeout("2s"), timeout("100ms")),
            (Ok(Duration::from_secs(2)), Ok(Duration::from_millis(100)))
        );
        // A sign, a fraction, two units, digits of another script or an overflow is no length of time.
        for bad in [
            "",
            "0",
            "30",
            "d",
            "-1d",
            "+1d",
            "0s",
            "999ms",
            "401d",
            "999y",
            "1.5h",
            "1 d",
            "1D",
            "1d2h",
            "٣d",
            "99999999999999999999d",
            "18446744073709551615d",
            "1e3s",
        ] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
        for bad in ["99ms", "10001ms", "11s", "1m", "2"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
