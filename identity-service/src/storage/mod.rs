//! The stores: PostgreSQL is the truth, Redis serves and is rebuilt from it.

/// Runs what may be run twice (a read, or a statement that changes nothing the second time), and once more where a
/// connection to PostgreSQL was lost under it. The block takes a connection of its own.
macro_rules! retry_lost {
    ($work:block) => {{
        let mut was_lost = false;
        loop {
            // Boxed, as a visitor's call mostly asks PostgreSQL nothing and would carry the room for it.
            let done: $crate::error::Result<_> = Box::pin(async { $work }).await;
            match done {
                Err(error) if !was_lost && error.is_lost_connection() => was_lost = true,
                done => break done,
            }
        }
    }};
}

pub mod attempt;
pub mod batcher;
pub mod cache_entries;
pub mod canonical_hints;
pub mod change;
pub mod consents;
pub mod hash_cache;
pub mod key_uses;
pub mod lookup;
pub mod mark;
pub mod postgres;
pub mod read_through;
pub mod redis;
pub mod repairs;
pub mod via;

pub(crate) use retry_lost;

use std::time::Instant;

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use metrics::{counter, histogram};
use migrations::pool::{PgPool, PgPooled};

use self::redis::client::RedisClient;
use crate::{
    error::{Error, Result},
    limits::org_writes::OrgWrites,
};

/// The two stores, and the limit on changes to them.
#[derive(Clone)]
pub struct Stores {
    /// The pool of PostgreSQL, which has the truth.
    pub postgres: PgPool,
    /// Redis, which serves what PostgreSQL knows.
    pub redis: RedisClient,
    /// The limit on how many changes of one organisation run at once.
    pub org_writes: OrgWrites,
}

impl Stores {
    /// Takes a connection to PostgreSQL, within the pool's bound. Waits, and what came of them, are measured.
    pub async fn connection(&self) -> Result<PgPooled> {
        let began = Instant::now();
        let connection = self.postgres.get().await;
        histogram!("datafly_pool_wait_seconds", "pool" => "postgres").record(began.elapsed().as_secs_f64());
        if connection.is_err() {
            counter!("datafly_pool_timeouts_total", "pool" => "postgres").increment(1);
        }
        Ok(connection?)
    }

    /// Leaves all connections where `error` says that the server takes no writes any more (SQLSTATE 25006). The
    /// supervisor would find it out within a second.
    pub fn leave_if_demoted(&self, error: &Error) {
        if let Error::Postgres(DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _)) = error
        {
            self.postgres.leave();
        }
    }
}
