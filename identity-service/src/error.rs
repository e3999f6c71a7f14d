//! The core's error type, and its one way out as a gRPC status.

use std::time::Duration;

use bb8_redis::{bb8::RunError, redis::RedisError};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use migrations::pool::{Fault, PgPoolError};
use proto::{Reason, v1::ErrorReason};
use tonic::Status;

/// Reasons for which a call was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's fault, or a limit of ours; the field at fault is named where there is one.
    #[error("refused: {reason:?}")]
    Refused {
        /// The stable, public reason.
        reason: ErrorReason,
        /// Path of the field, `subjects[3].user_id`.
        field: Option<String>,
    },
    /// A signed call that does not say when it was signed names somebody who was erased.
    #[error("erased, and the call is unstamped")]
    Unstamped,
    /// The key is over its rate.
    #[error("over the rate for {delay:?}")]
    RateLimited {
        /// Time until the same request passes.
        delay: Duration,
    },
    /// PostgreSQL refused a statement or went away.
    #[error("postgres: {0}")]
    Postgres(#[from] DieselError),
    /// PostgreSQL gave no connection within the checkout's bound.
    #[error("postgres pool: {0}")]
    PostgresPool(#[from] PgPoolError),
    /// Redis refused a command or went away.
    #[error("redis: {0}")]
    Redis(#[from] RedisError),
    /// Redis gave no connection within the checkout's bound.
    #[error("redis lanes: {0}")]
    RedisLane(#[from] RunError<RedisError>),
    /// Rows that were read have changed before they were locked; the whole transaction is to be tried again.
    #[error("another change came first")]
    Moved,
    /// The event log could not be written or read.
    #[error("event log: {0}")]
    Log(#[from] event_log::LogError),
    /// A task of ours died.
    #[error("task: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The result of the core's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes a refusal without a field.
    pub fn refused(reason: ErrorReason) -> Self {
        Self::Refused { reason, field: None }
    }

    /// Makes the refusal of a field that is missing, malformed or out of bounds.
    pub fn invalid(field: impl Into<String>) -> Self {
        Self::Refused { reason: ErrorReason::InvalidArgument, field: Some(field.into()) }
    }

    /// True where a connection to PostgreSQL was lost, or ended by the server, under a statement.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Postgres(error) if Fault::of(error) == Fault::Connection)
    }

    /// Returns the public reason. What the stores said is logged here, once, and never returned.
    pub fn reason(&self) -> ErrorReason {
        match self {
            Self::Refused { reason, .. } => *reason,
            Self::Unstamped => ErrorReason::Erased,
            Self::RateLimited { .. } => ErrorReason::RateLimited,
            Self::Postgres(error) => {
                serve::warn_on_change!(WARN, %error, "postgres");
                classify(error)
            }
            Self::PostgresPool(error) => {
                serve::warn_on_change!(WARN, %error, "postgres pool");
                ErrorReason::Unavailable
            }
            Self::Moved => ErrorReason::Unavailable,
            Self::Redis(_) | Self::RedisLane(_) => {
                serve::warn_on_change!(WARN, error = %self, "redis");
                ErrorReason::Unavailable
            }
            Self::Log(error) => {
                serve::warn_on_change!(WARN, %error, "event log");
                if error.is_full() { ErrorReason::Overloaded } else { ErrorReason::Unavailable }
            }
            Self::Task(error) => {
                serve::warn_on_change!(ERROR, %error, "task");
                ErrorReason::Internal
            }
        }
    }
}

/// Judges an error of PostgreSQL. A violated constraint is a defect of ours; all else that PostgreSQL says is
/// its own state.
fn classify(error: &DieselError) -> ErrorReason {
    match error {
        DieselError::DatabaseError(
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation,
            _,
        )
        | DieselError::DeserializationError(_)
        | DieselError::SerializationError(_)
        | DieselError::QueryBuilderError(_)
        | DieselError::NotFound => ErrorReason::Internal,
        _ => ErrorReason::Unavailable,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        match error {
            Error::Refused { field, .. } => Reason::of(reason).status(field.as_deref()),
            Error::RateLimited { delay } => Reason::of(reason).status_after(delay),
            _ => Reason::of(reason).status(None),
        }
    }
}
