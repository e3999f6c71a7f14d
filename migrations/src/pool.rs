//! The PostgreSQL pool: bounded waits, bounded statements, no check on checkout.

use std::time::Duration;

use diesel_async::{
    AsyncConnection, AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        bb8::{Pool, PooledConnection, RunError},
    },
};
use secrecy::{ExposeSecret, SecretString};

/// A pool of PostgreSQL connections.
pub type PgPool = Pool<AsyncPgConnection>;
/// A connection that belongs to the pool.
pub type PgPooled<'a> = PooledConnection<'a, AsyncPgConnection>;
/// Why no connection was had.
pub type PgPoolError = RunError;

/// How long a request waits for a connection before it is refused (threats.md F16).
pub const CHECKOUT_TIMEOUT: Duration = Duration::from_millis(250);

/// Set on every connection: a statement ends before the caller's deadline of 1 s does, and a session that a
/// crashed task left inside a transaction is ended by the server.
const SESSION: &str = "SET statement_timeout = '900ms'; \
    SET lock_timeout = '500ms'; \
    SET idle_in_transaction_session_timeout = '5s'";

/// Opens a pool of up to `max_size` connections; none is opened before it is needed, so a database that is
/// away does not stop the start.
pub fn connect_lazily(database_url: &SecretString, max_size: u32) -> PgPool {
    let mut config = ManagerConfig::default();
    // The checkout's own `SELECT 1` costs as much as a keyed read (limits.md), and passes on a standby.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(|url| {
        Box::pin(async move {
            let mut connection = AsyncPgConnection::establish(url).await?;
            connection
                .batch_execute(SESSION)
                .await
                .map_err(|error| diesel::ConnectionError::BadConnection(error.to_string()))?;
            Ok(connection)
        })
    });
    let manager =
        AsyncDieselConnectionManager::new_with_config(database_url.expose_secret().to_owned(), config);
    Pool::builder()
        .max_size(max_size)
        .connection_timeout(CHECKOUT_TIMEOUT)
        .retry_connection(false)
        .build_unchecked(manager)
}
