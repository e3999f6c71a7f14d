//! The event log: accepted events, durable and in the order in which they were committed, until every destination has
//! had them. A dumb log: append, read from a position, drop what is old. Who has had what is its readers' to remember.

mod envelope;
mod event_id;
mod postgres;
mod seal;

use std::fmt;

use time::{Date, OffsetDateTime};
use uuid::Uuid;

pub use self::{
    envelope::{Incoming, MAX_EVENT_BYTES, NotAnEvent},
    event_id::of_message,
    postgres::{Head, Kept, LogError, PostgresLog, forget, of_people},
    seal::{Cipher, LogKeys, OpenError, Place},
};

/// An event that is to be kept.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Where it belongs, to which its body is sealed.
    pub place: Place,
    /// The canonical identity at the time of its arrival.
    pub canonical: Uuid,
    /// The time of its arrival, in UTC, whose day the place is of.
    pub received_at: OffsetDateTime,
    /// The envelope, sealed.
    pub body: Vec<u8>,
}

/// An event as the log has it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its place in the order.
    pub position: Position,
    /// Where it belongs.
    pub place: Place,
    /// The canonical identity at the time of its arrival.
    pub canonical: Uuid,
    /// The time of its arrival.
    pub received_at: OffsetDateTime,
    /// The envelope, sealed.
    pub body: Vec<u8>,
}

/// A place in the order of a source's events. Its text is the engine's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(i64);

impl Position {
    /// The position of that number.
    pub fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number that it is stored as.
    pub fn number(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Place {
    /// The place of an event that arrives at that time.
    pub fn at(org: Uuid, source: Uuid, event: Uuid, received_at: OffsetDateTime) -> Self {
        Self { org, source, event, day: day_of(received_at) }
    }
}

fn day_of(at: OffsetDateTime) -> Date {
    at.to_offset(time::UtcOffset::UTC).date()
}
