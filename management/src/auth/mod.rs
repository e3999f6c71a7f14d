//! Authentication: who may log in, and what proves that someone has.

pub mod hashing;
pub mod login;
pub mod middleware;
pub mod new_password;
pub mod password;
pub mod refresh;
pub mod sessions;
pub mod throttle;
pub mod tokens;

use std::sync::Arc;

use migrations::pool::{PgPool, PgPooled};
use serve::TrustedProxies;

use self::{hashing::Hashing, tokens::Tokens};
use crate::api::error::Result;

/// Authentication, with the parts that it takes. Clones share all of them.
#[derive(Clone)]
pub struct Auth {
    /// PostgreSQL, for users, sessions and counters of failed logins.
    pub postgres: PgPool,
    /// Signs and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Hashes passwords, a few at a time.
    pub hashing: Arc<Hashing>,
    /// Proxies whose X-Forwarded-For counts.
    pub proxies: Arc<TrustedProxies>,
}

impl Auth {
    /// A connection to PostgreSQL, within the pool's bound.
    async fn connection(&self) -> Result<PgPooled> {
        Ok(self.postgres.get().await?)
    }
}
