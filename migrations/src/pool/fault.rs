//! Errors of PostgreSQL, and what they tell about its state.

use diesel::result::{DatabaseErrorKind as Kind, Error};

/// A kind of error. Diesel passes on no SQLSTATE, so some are told by their text, which every session asks
/// for in English where it may (see [`super::server`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Deadlock, serialization failure, lock timeout: nothing was done, and the other is done soon.
    Conflict,
    /// No space is left for what is written (SQLSTATE 53100); reads go on.
    DiskFull,
    /// The server takes no writes any more (SQLSTATE 25006).
    ReadOnly,
    /// The statement took longer than it may.
    Timeout,
    /// The connection broke, or was closed by the server.
    Connection,
    /// An error that tells nothing about the server's state.
    Other,
}

impl Fault {
    /// The kind of `error`.
    pub fn of(error: &Error) -> Self {
        let Error::DatabaseError(kind, information) = error else { return Self::Other };
        let says = |text| information.message().contains(text);
        match kind {
            Kind::SerializationFailure => Self::Conflict,
            Kind::ReadOnlyTransaction => Self::ReadOnly,
            Kind::ClosedConnection | Kind::UnableToSendCommand => Self::Connection,
            // SQLSTATE 57P01 and its like: the session was ended.
            Kind::Unknown if says("terminating connection") => Self::Connection,
            Kind::Unknown if says("deadlock detected") || says("lock timeout") => Self::Conflict,
            Kind::Unknown if says("statement timeout") => Self::Timeout,
            // Whatever the file, and with a quota as well.
            Kind::Unknown if information.hint() == Some("Check free disk space.") => Self::DiskFull,
            Kind::Unknown if says("No space left on device") => Self::DiskFull,
            _ => Self::Other,
        }
    }

    /// The kind as the metric `datafly_postgres_errors_total` counts it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::DiskFull => "disk_full",
            Self::ReadOnly => "read_only",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Other => "other",
        }
    }
}
