//! The log in PostgreSQL: a table that is partitioned by day. Whoever appends holds an advisory lock until COMMIT, so
//! that numbers are given in the order of commits and a reader needs to remember one.

mod append;
mod read;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Date as SqlDate, Double},
};
use diesel_async::RunQueryDsl;
use migrations::{
    pool::{Fault, PgPool, PgPoolError},
    prepared::Prepared,
};
use time::{Date, Duration};

pub use self::{
    append::forget,
    read::{Head, of_people},
};

/// The log.
#[derive(Clone)]
pub struct PostgresLog {
    pool: PgPool,
}

/// The reason why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There was no connection.
    #[error("no connection: {0}")]
    Pool(#[from] PgPoolError),
    /// A statement failed.
    #[error("{0}")]
    Postgres(#[from] diesel::result::Error),
}

impl LogError {
    /// True where the server has no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Postgres(error) if Fault::of(error) == Fault::DiskFull)
    }

    /// True where the connection was lost under a statement.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, Self::Postgres(error) if Fault::of(error) == Fault::Connection)
    }

    /// True where the server takes no writes any more.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Postgres(error) if Fault::of(error) == Fault::ReadOnly)
    }
}

/// What was dropped of the past.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Kept {
    /// Number of days.
    #[diesel(sql_type = BigInt)]
    pub dropped: i64,
    /// Number of events in them that a destination has not had.
    #[diesel(sql_type = BigInt)]
    pub expired: i64,
}

impl PostgresLog {
    /// The log in the database of that pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Makes room for the events of `today` and of two days to come.
    pub async fn make_room(&self, today: Date) -> Result<(), LogError> {
        let made = sql_query("SELECT make_event_days($1)").bind::<SqlDate, _>(today);
        Prepared(made).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }

    /// Drops the oldest day that ended `keep` ago and that every destination has had; after seven days also one that a
    /// destination has not.
    pub async fn drop_day(&self, today: Date, keep: Duration) -> Result<Kept, LogError> {
        let kept = sql_query("SELECT dropped, expired FROM drop_event_day($1, make_interval(secs => $2))")
            .bind::<SqlDate, _>(today)
            .bind::<Double, _>(keep.as_seconds_f64());
        Ok(Prepared(kept).get_result(&mut *self.pool.get().await?).await?)
    }
}
