//! The state of Redis: used just now or not, and for what reasons not.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
};

use bb8_redis::redis::{ErrorKind, RedisError, ServerError, ServerErrorKind};
use metrics::counter;
use tokio::sync::Notify;

use super::server::Server;
use crate::error::Error;

/// No connection leads to a primary that answers in time. The supervisor alone tries.
const AWAY: u8 = 1;
/// Repairs may be left: this process or another, each of which finds Redis away at a moment of its own, may
/// have committed what Redis was not told. Until they are made, nothing that Redis says is believed.
const REPAIRS: u8 = 2;
/// The server is not the one that this process knows, so it may hold old values.
const UNKNOWN_SERVER: u8 = 4;

/// Late answers in a row, on all connections together, that mean that Redis is away. A single one means
/// nothing: a machine with more to do than cores is late now and then, and its caller has PostgreSQL. Twenty
/// in a row come within a moment under load; without load the supervisor sees the same within a second.
const LATE: u32 = 20;

/// State that a request asks before it sends: one load.
pub struct State {
    reasons: AtomicU8,
    late: AtomicU32,
    refuses_writes: AtomicBool,
    /// The server whose values this process believes; see [`State::check_server`].
    believed: Mutex<Option<String>>,
    supervisor: Notify,
}

/// A failure's meaning for the connection it came over.
pub enum Failure {
    /// The command's own failure, which says nothing about the connection.
    Command,
    /// A late answer, which says nothing yet.
    Late,
    /// A failure of the connection, which is to be left.
    Connection,
}

impl State {
    /// Begins as an unknown server with repairs to make: nothing is known of any server yet.
    pub fn new() -> Self {
        Self {
            reasons: AtomicU8::new(UNKNOWN_SERVER | REPAIRS),
            late: AtomicU32::new(0),
            refuses_writes: AtomicBool::new(false),
            believed: Mutex::default(),
            supervisor: Notify::new(),
        }
    }

    fn has(&self, reasons: u8) -> bool {
        self.reasons.load(Ordering::Acquire) & reasons != 0
    }

    fn set(&self, reason: u8) -> bool {
        self.reasons.fetch_or(reason, Ordering::AcqRel) & reason == 0
    }

    fn clear(&self, reason: u8) -> bool {
        self.reasons.fetch_and(!reason, Ordering::AcqRel) & reason != 0
    }

    /// True while no connection is worth trying.
    pub fn is_away(&self) -> bool {
        self.has(AWAY)
    }

    /// True while what Redis says may be old.
    pub fn is_distrusted(&self) -> bool {
        self.has(REPAIRS | UNKNOWN_SERVER)
    }

    /// True while this process has repairs to make.
    pub fn waits_for_repairs(&self) -> bool {
        self.has(REPAIRS)
    }

    /// True while the server is not one whose values were made good.
    pub fn is_unknown_server(&self) -> bool {
        self.has(UNKNOWN_SERVER)
    }

    /// Notes that Redis could not be told of a change, so repairs are to be made. Logged once for each time
    /// that it ceases to be believed, unless it refuses all writes, which is logged already.
    pub fn distrust(&self, error: &Error) {
        if self.set(REPAIRS) && !self.refuses_writes.load(Ordering::Relaxed) {
            tracing::warn!(%error, "redis was not told of a change, and is not believed until that is repaired");
        }
    }

    /// Notes that the repairs have been made.
    pub fn trust(&self) {
        self.clear(REPAIRS);
    }

    /// Notes that a request was answered, which ends a row of late answers.
    pub fn answered(&self) {
        // Mostly a load; a store would take the cache line from the other threads each time.
        if self.late.load(Ordering::Relaxed) != 0 {
            self.late.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure, and tells what it means.
    pub fn classify_failure(&self, error: &RedisError) -> Failure {
        count(error);
        match code(error) {
            "timeout" if self.late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE => Failure::Connection,
            "timeout" => Failure::Late,
            "other" => Failure::Command,
            // Reads go on, and each write leaves a repair.
            "MISCONF" | "OOM" => {
                if !self.refuses_writes.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "redis refuses writes");
                }
                Failure::Command
            }
            _ => Failure::Connection,
        }
    }

    /// Notes that a writer's marker was taken, which is the first that a server without memory refuses.
    pub fn wrote(&self) {
        if self.refuses_writes.load(Ordering::Relaxed) && self.refuses_writes.swap(false, Ordering::Relaxed) {
            tracing::info!("redis takes writes again");
        }
    }

    /// Stops the use of Redis until [`State::back`]; the supervisor sets about that at once.
    pub fn leave(&self, error: &RedisError) {
        // Before it can be back.
        self.set(REPAIRS);
        if self.set(AWAY) {
            tracing::error!(%error, "redis is not used");
            self.supervisor.notify_one();
        }
    }

    /// Lets Redis be used again, as a primary answers in time.
    pub fn back(&self) {
        self.late.store(0, Ordering::Relaxed);
        if self.clear(AWAY) {
            tracing::info!("redis is used again");
        }
    }

    /// Waits for the next [`State::leave`].
    pub async fn left(&self) {
        self.supervisor.notified().await;
    }

    /// Decides whether a server's values are believed, and says so. Values are believed of the server of
    /// before, or, where this process knows none, of one that says itself that its values were made good for
    /// it: a copy of another server's data (an old dump, a replica) names that other one.
    pub fn check_server(&self, server: &Server) -> bool {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let names_itself = server.named.as_ref().map(|named| *named == server.identity);
        let known = match &*believed {
            // It lost its name where it was flushed, and with it all else.
            Some(own) => *own == server.identity && names_itself != Some(false),
            None => names_itself == Some(true),
        };
        if !known {
            self.set(UNKNOWN_SERVER);
        } else if believed.is_none() {
            *believed = Some(server.identity.clone());
            self.clear(UNKNOWN_SERVER);
        }
        known
    }

    /// Believes a server whose values have been made good. `leave_lanes` leaves all lanes, as some may lead
    /// to another.
    pub fn accept_server(&self, identity: String, leave_lanes: impl FnOnce()) {
        // Under the lock: a lane that was checked before is left, one that opens later is checked by the new name.
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        *believed = Some(identity);
        leave_lanes();
        self.clear(UNKNOWN_SERVER);
    }
}

/// True where an error tells of the server's or the connection's state, not of the one command.
pub fn is_the_servers(error: &RedisError) -> bool {
    code(error) != "other"
}

/// Counts a failure by its kind.
pub fn count(error: &RedisError) {
    counter!("datafly_redis_errors_total", "kind" => code(error)).increment(1);
}

/// Names a failure in one word: the server's own code where it matters here.
fn code(error: &RedisError) -> &'static str {
    if error.is_timeout() {
        return "timeout";
    }
    if error.is_io_error() || error.is_connection_dropped() {
        return "connection";
    }
    // redis-rs takes none of these for a broken connection, and a replica answers PING: after a failover
    // behind a name writes would fail on the old connections for ever.
    match error.kind() {
        ErrorKind::AuthenticationFailed => return "NOAUTH",
        ErrorKind::Server(ServerErrorKind::ReadOnly) => return "READONLY",
        ErrorKind::Server(ServerErrorKind::BusyLoading) => return "LOADING",
        ErrorKind::Server(ServerErrorKind::MasterDown) => return "MASTERDOWN",
        ErrorKind::Server(ServerErrorKind::NoPerm) => return "NOPERM",
        _ => {}
    }
    let known = |code: &str| ["NOAUTH", "MISCONF", "OOM"].into_iter().find(|known| *known == code);
    let first =
        |errors: &[(usize, _)]| errors.first().and_then(|(_, error): &(_, ServerError)| known(error.code()));
    let code = error.code().and_then(known);
    code.or_else(|| first(&error.clone().into_server_errors()?)).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_not_believed_before_the_repairs_of_all_are_made() {
        let state = State::new();
        assert!(state.is_distrusted(), "nothing is known of any server yet");
        state.accept_server("one".to_owned(), || {});
        assert!(state.is_distrusted(), "another process may have left repairs");
        state.trust();
        assert!(!state.is_distrusted());
        state.leave(&RedisError::from((ErrorKind::Io, "late")));
        state.back();
        assert!(!state.is_away() && state.is_distrusted() && state.waits_for_repairs());
        state.trust();
        assert!(!state.is_distrusted());
    }
}
