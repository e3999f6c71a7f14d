//! The stores: PostgreSQL is the truth, Redis serves and is rebuilt from it.

pub mod change;
pub mod entries;
pub mod fill;
pub mod postgres;
pub mod redis;
pub mod repairs;

use migrations::pool::PgPool;

use self::redis::lanes::Lanes;

/// Both stores.
#[derive(Clone)]
pub struct Stores {
    /// The truth.
    pub postgres: PgPool,
    /// What serves.
    pub redis: Lanes,
}
