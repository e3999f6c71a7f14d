//! Watching the primary on a connection of its own, so that a full pool looks no different from an idle one.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types::Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tokio::time::{Instant, timeout};

use super::{Connection, PgPool};

/// Longest time of a look. There is a look each second, so that a loss shows within 2 s.
const LOOK_TIMEOUT: Duration = Duration::from_millis(900);
/// Longest time that the present connection may take to answer; the rest is for a new one.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// Time for which one connection is looked through, which is two looks. A name that leads to another server
/// shows to new connections only, and writes have to succeed again 5 s after a failover.
const RENEW: Duration = Duration::from_millis(1500);

/// Looks after a pool: it leaves connections to a server that is no longer the primary, and has the pool
/// refuse at once while there is none.
pub struct Supervisor {
    pool: PgPool,
    own: Option<(Connection, Instant)>,
}

impl Supervisor {
    /// Makes a supervisor for this pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, own: None }
    }

    /// Looks for a primary, and is true where one answers within [`LOOK_TIMEOUT`]. The pool believes it until
    /// the next look.
    pub async fn look(&mut self) -> bool {
        let before = self.pool.server.signs();
        let found = timeout(LOOK_TIMEOUT, self.finds_primary()).await.unwrap_or(false);
        let after = self.pool.server.signs();
        // A process with too much to do misses the answer to its own look, while requests' statements get
        // theirs.
        let up = found || (after.generation == before.generation && after.answers != before.answers);
        self.pool.server.set_away(!up);
        up
    }

    async fn finds_primary(&mut self) -> bool {
        let due = self.own.as_ref().is_none_or(|(_, opened)| opened.elapsed() >= RENEW);
        if !due && self.ask().await {
            return true;
        }
        // A server that takes no further connection may still serve those that it has.
        self.renew().await || (due && self.ask().await)
    }

    /// Opens a new connection, which finds out whether the server is the one that it was.
    async fn renew(&mut self) -> bool {
        match self.pool.open().await {
            Ok(connection) => {
                self.own = Some((connection, Instant::now()));
                true
            }
            Err(_) => false,
        }
    }

    /// Asks through the present connection, and gives it up where it has no answer.
    async fn ask(&mut self) -> bool {
        let Some((mut connection, opened)) = self.own.take() else { return false };
        match timeout(ASK_TIMEOUT, is_primary(&mut connection)).await {
            Ok(Ok(true)) => {
                self.own = Some((connection, opened));
                true
            }
            Ok(Ok(false)) => {
                self.pool.leave();
                false
            }
            _ => false,
        }
    }
}

#[derive(QueryableByName)]
struct Role {
    #[diesel(sql_type = Bool)]
    primary: bool,
}

/// True where the server takes writes: a standby does not, nor does a primary that was told not to.
async fn is_primary(connection: &mut AsyncPgConnection) -> diesel::QueryResult<bool> {
    let role: Role = sql_query("SELECT current_setting('transaction_read_only') = 'off' AS primary")
        .get_result(connection)
        .await?;
    Ok(role.primary)
}
