//! The PostgreSQL pool. Its waits, statements and attempts to connect are bounded, and it holds connections
//! only to the server that takes writes; none of that costs a round trip at checkout.

mod connection;
mod fault;
mod pooled;
mod server;
mod supervisor;

use std::time::Duration;

use bb8::Pool;
use diesel::{ConnectionError, ConnectionResult};

use self::server::Server;
pub use self::{connection::Connection, fault::Fault, pooled::PgPooled, supervisor::Supervisor};
use crate::database::Database;

/// Reason for which no connection was had.
pub type PgPoolError = bb8::RunError<ConnectionError>;

/// Longest time that a request waits for a connection before it is refused: the queue stays short, and those
/// in it are served in time.
pub const CHECKOUT_TIMEOUT: Duration = Duration::from_millis(250);

/// Connections opened ahead, so that the first requests after a start or a failover wait for no login.
const SPARE: u32 = 2;

/// A pool of connections to the primary behind one name.
#[derive(Debug, Clone)]
pub struct PgPool {
    members: Pool<Server>,
    server: Server,
}

impl PgPool {
    /// A pool of up to `max_size` connections, opened in the background as they are needed, or soon will be.
    pub fn connect_lazily(database: &Database, max_size: u32) -> Self {
        let server = Server::new(database);
        let members = Pool::builder()
            .max_size(max_size)
            .min_idle(Some(SPARE.min(max_size)))
            .connection_timeout(CHECKOUT_TIMEOUT)
            .retry_connection(false)
            .build_unchecked(server.clone());
        Self { members, server }
    }

    /// A connection, within [`CHECKOUT_TIMEOUT`]; refused at once while a [`Supervisor`] sees no primary.
    pub async fn get(&self) -> Result<PgPooled, PgPoolError> {
        if self.server.is_away() {
            return Err(PgPoolError::User(ConnectionError::BadConnection("no primary answers".to_owned())));
        }
        Ok(PgPooled::new(self.members.get_owned().await?))
    }

    /// A connection beside the pool's, for a task that must not wait for those.
    pub async fn open(&self) -> ConnectionResult<Connection> {
        self.server.open().await
    }

    /// Leaves every connection opened so far: the server is no longer the primary.
    pub fn leave(&self) {
        self.server.leave();
    }
}
