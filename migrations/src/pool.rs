//! The PostgreSQL pool: bounded waits, bounded statements, no check on checkout.

use std::time::Duration;

use diesel::ConnectionError;
use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection,
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

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long bytes may go unacknowledged.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(2);

/// Set on every connection: a statement ends before the caller's deadline of 1 s does, and a session that a
/// crashed task left inside a transaction is ended by the server.
const SESSION: &str = "SET statement_timeout = '900ms'; \
    SET lock_timeout = '500ms'; \
    SET idle_in_transaction_session_timeout = '5s'";

/// Opens a pool of up to `max_size` connections, each when it is needed.
pub fn connect_lazily(database_url: &SecretString, max_size: u32) -> PgPool {
    let mut config = ManagerConfig::default();
    // The checkout's own `SELECT 1` costs as much as a keyed read (limits.md), and passes on a standby.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(|url| Box::pin(connect(url)));
    let manager =
        AsyncDieselConnectionManager::new_with_config(database_url.expose_secret().to_owned(), config);
    Pool::builder()
        .max_size(max_size)
        .connection_timeout(CHECKOUT_TIMEOUT)
        .retry_connection(false)
        .build_unchecked(manager)
}

async fn connect(url: &str) -> diesel::ConnectionResult<AsyncPgConnection> {
    let failed = |error: &dyn std::error::Error| ConnectionError::BadConnection(error.to_string());
    let mut config: tokio_postgres::Config = url.parse().map_err(|error| failed(&error))?;
    // A peer that says nothing, because its machine or the way to it is gone, is left after that long.
    config
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(SILENCE_TIMEOUT)
        .keepalives_idle(SILENCE_TIMEOUT);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|error| failed(&error))?;
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
    connection.batch_execute(SESSION).await.map_err(|error| failed(&error))?;
    Ok(connection)
}
