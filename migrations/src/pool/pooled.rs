//! A pool's connection on loan.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use bb8::PooledConnection;
use tokio::{runtime::Handle, time::timeout};

use super::{Connection, server::Server};

/// Longest time that a statement which nobody waits for any more may go on. With the 50 ms in which the
/// server notices a closed connection it is gone 100 ms after its caller.
const GRACE: Duration = Duration::from_millis(40);

/// A connection that goes back to its pool when dropped; one in the middle of a statement only when that has
/// ended. Requests are dropped whenever a client leaves: closing their connections at once would cost a login
/// each, and putting them back at once would have the next user wait.
pub struct PgPooled(Option<PooledConnection<'static, Server>>);

impl PgPooled {
    pub(super) fn new(connection: PooledConnection<'static, Server>) -> Self {
        Self(Some(connection))
    }
}

#[expect(clippy::expect_used, reason = "it is taken out in drop alone")]
impl Deref for PgPooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("on loan")
    }
}

#[expect(clippy::expect_used, reason = "it is taken out in drop alone")]
impl DerefMut for PgPooled {
    fn deref_mut(&mut self) -> &mut Connection {
        self.0.as_mut().expect("on loan")
    }
}

impl Drop for PgPooled {
    fn drop(&mut self) {
        let Some(mut connection) = self.0.take_if(|connection| connection.is_in_statement()) else { return };
        if let Ok(runtime) = Handle::try_current() {
            // It goes back then; still in the middle of a statement it is closed.
            runtime.spawn(async move { timeout(GRACE, connection.settle()).await.map(drop) });
        }
    }
}
