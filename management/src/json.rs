//! Times of the contract as JSON has them.

use prost_types::Timestamp;
use time::OffsetDateTime;

/// Gives the time that a timestamp stands for; none where it is out of range.
pub fn time(timestamp: Timestamp) -> Option<OffsetDateTime> {
    let whole = OffsetDateTime::from_unix_timestamp(timestamp.seconds).ok()?;
    whole.checked_add(time::Duration::nanoseconds(timestamp.nanos.into()))
}
