//! The one place that reads the clock. All other code takes the time as an argument.
//!
//! States, schedules and signatures made at one instance are judged at another, so all follow the database's
//! clock where a machine's own is wrong.

use std::sync::atomic::{AtomicI64, Ordering};

use metrics::gauge;
use time::{Duration, OffsetDateTime};

/// Milliseconds that this machine's clock is behind the database's.
static BEHIND_MS: AtomicI64 = AtomicI64::new(0);
/// Difference below which the clock is let be, in milliseconds: nothing here depends on so little, and some
/// of it is the way to the database.
const LEEWAY_MS: i64 = 5_000;

/// Returns the time in UTC, to the millisecond: what PostgreSQL, Redis and a sync state hold is then the same
/// value.
pub fn now() -> OffsetDateTime {
    let now = machine() + Duration::milliseconds(BEHIND_MS.load(Ordering::Relaxed));
    now.replace_millisecond(now.millisecond()).unwrap_or(now)
}

/// Follows the database's clock, which said this just now.
pub fn follow(database: OffsetDateTime) {
    let behind = unix_ms(database).saturating_sub(unix_ms(machine()));
    gauge!("datafly_clock_behind_seconds").set(Duration::milliseconds(behind).as_seconds_f64());
    let corrected = if behind.abs() < LEEWAY_MS { 0 } else { behind };
    let before = BEHIND_MS.swap(corrected, Ordering::Relaxed);
    if (corrected - before).abs() >= LEEWAY_MS {
        tracing::warn!(behind_ms = behind, "this machine's clock and the database's differ");
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn machine() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Converts a time to milliseconds since the Unix epoch.
pub fn unix_ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// Converts `ms` milliseconds since the Unix epoch to a time; none where it lies outside the calendar.
pub fn from_unix_ms(ms: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()
}

/// Converts a time to the system's type.
pub fn system(at: OffsetDateTime) -> std::time::SystemTime {
    at.into()
}

/// Converts a protobuf timestamp to a time; none where it lies outside the calendar.
pub fn from_timestamp(at: prost_types::Timestamp) -> Option<OffsetDateTime> {
    let second = OffsetDateTime::from_unix_timestamp(at.seconds).ok()?;
    second.replace_nanosecond(u32::try_from(at.nanos).ok()?).ok()
}

/// Converts a time to a protobuf timestamp.
pub fn timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or_default(),
    }
}
