//! State that every request works with, built once at the start.

use std::sync::Arc;

use axum::extract::FromRef;
use migrations::{
    pool::{PgPool, PgPooled},
    sealed::SealKeys,
};
use serve::TrustedProxies;

use crate::{
    api::error::Result, auth::Auth, catalog::Catalog, core_client::CoreClient, crypto::health::Health,
};

/// The control plane. Clones share all of it.
#[derive(Clone)]
pub struct Management {
    /// PostgreSQL, for settings, users and sessions.
    pub postgres: PgPool,
    /// The identity core, which knows vendors and visitors.
    pub core: CoreClient,
    /// Vendors that there are, as the core said last.
    pub catalog: Arc<Catalog>,
    /// Seals and opens credentials.
    pub keys: Arc<SealKeys>,
    /// Result of trying these keys at the start.
    pub crypto_health: Arc<Health>,
    /// True where customers' hosts may be on loopback or private addresses.
    pub allow_loopback: bool,
    /// Users and their sessions.
    pub auth: Auth,
}

impl Management {
    /// A connection to PostgreSQL, within the pool's bound.
    pub async fn connection(&self) -> Result<PgPooled> {
        Ok(self.postgres.get().await?)
    }
}

/// Lets a handler ask where its request came from.
impl FromRef<Management> for Arc<TrustedProxies> {
    fn from_ref(state: &Management) -> Self {
        state.auth.proxies.clone()
    }
}
