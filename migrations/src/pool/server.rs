//! The server behind the name: opening connections to it, and noticing that it is another one.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bb8::ManageConnection;
use diesel::{ConnectionError, ConnectionResult, QueryableByName, sql_query, sql_types::Text};
use diesel_async::AsyncPgConnection;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_postgres::config::TargetSessionAttrs;

use super::connection::{Connection, Life};
use crate::database::{Database, text};

/// Longest time that a connection may take to open, login included: a server may accept and then say nothing.
const OPEN_TIMEOUT: Duration = Duration::from_millis(900);
/// Longest time that bytes may go unacknowledged.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Period of asking a peer that says nothing if it is still there.
const KEEPALIVE: Duration = Duration::from_secs(1);
/// Milliseconds after a failed attempt in which there is no other: with whatever timing a process makes fewer
/// than ten a second, so that a server which is full or coming back meets no storm.
const PAUSE_MS: std::ops::Range<u64> = 150..350;

/// First statement on every connection. It has statements end before the caller's deadline of 1 s does, and
/// the server end a session that a crashed task left inside a transaction and, within 50 ms, a statement
/// whose client has gone. The start time tells servers apart: a standby that was promoted has another one
/// than its primary. One that has crashed and kept its start time has lost its statistics. Errors are told apart by their text, so it is to be English whatever the database's
/// language; not every user may say so, and for one who may not the server has to be set to it.
const SESSION: &str = "SELECT concat(pg_postmaster_start_time(), ' ', (SELECT stats_reset FROM pg_stat_wal)) \
        AS identity, \
    set_config('statement_timeout', '900ms', false), \
    set_config('lock_timeout', '500ms', false), \
    set_config('idle_in_transaction_session_timeout', '5s', false), \
    set_config('client_connection_check_interval', '50ms', false), \
    CASE WHEN has_parameter_privilege('lc_messages', 'SET') THEN set_config('lc_messages', 'C', false) END";

/// A name, and what is known of the primary behind it.
#[derive(Clone)]
pub struct Server {
    database: Arc<Database>,
    attempts: Arc<Mutex<Attempts>>,
    life: Arc<Life>,
    away: Arc<AtomicBool>,
}

/// Counts of how often the server was left and has answered.
pub(super) struct Signs {
    pub(super) generation: u64,
    pub(super) answers: u64,
}

/// Held for the length of an attempt, so that there is one at a time: a server that comes back meets no
/// storm.
#[derive(Default)]
struct Attempts {
    not_before: Option<Instant>,
    identity: Option<String>,
}

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = Text)]
    identity: String,
}

impl Server {
    /// The server that has this database.
    pub(super) fn new(database: &Database) -> Self {
        let mut database = database.clone();
        database
            .config
            // A standby, or a primary that was demoted, is not it.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(OPEN_TIMEOUT)
            .tcp_user_timeout(SILENCE_TIMEOUT)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE);
        Self {
            database: Arc::new(database),
            attempts: Arc::default(),
            life: Arc::default(),
            away: Arc::default(),
        }
    }

    /// Opens a connection, unless an attempt has failed just now.
    pub(super) async fn open(&self) -> ConnectionResult<Connection> {
        let mut attempts = self.attempts.lock().await;
        if attempts.not_before.is_some_and(|at| Instant::now() < at) {
            return Err(ConnectionError::BadConnection("an attempt has failed just now".to_owned()));
        }
        // Looked at before: what is found out in the meantime then counts against this connection as well.
        let Signs { mut generation, .. } = self.signs();
        let opened = timeout(OPEN_TIMEOUT, open(&self.database)).await;
        let opened = opened.unwrap_or_else(|_| Err(ConnectionError::BadConnection("timed out".to_owned())));
        let (connection, identity) = opened.inspect_err(|_| {
            let pause = Duration::from_millis(rand::random_range(PAUSE_MS));
            attempts.not_before = Some(Instant::now() + pause);
        })?;
        if attempts.identity.as_ref().is_some_and(|known| *known != identity) {
            self.leave();
            generation += 1;
        }
        attempts.identity = Some(identity);
        Ok(Connection::new(connection, generation, Arc::clone(&self.life)))
    }

    /// Leaves every connection opened so far.
    pub(super) fn leave(&self) {
        self.life.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts of what its connections have seen so far.
    pub(super) fn signs(&self) -> Signs {
        let Life { generation, answers } = &*self.life;
        Signs { generation: generation.load(Ordering::Acquire), answers: answers.load(Ordering::Acquire) }
    }

    /// True where no primary was found at the last look.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// Notes what a look has found.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl ManageConnection for Server {
    type Connection = Connection;
    type Error = ConnectionError;

    fn connect(&self) -> impl Future<Output = ConnectionResult<Connection>> + Send {
        self.open()
    }

    /// Asks nobody: a `SELECT 1` would cost as much as a keyed read, and passes on a standby.
    async fn is_valid(&self, connection: &mut Connection) -> ConnectionResult<()> {
        let usable = connection.is_usable();
        usable.then_some(()).ok_or_else(|| ConnectionError::BadConnection("left".to_owned()))
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        !connection.is_usable()
    }
}

async fn open(database: &Database) -> ConnectionResult<(AsyncPgConnection, String)> {
    let mut connection = database.connect().await?;
    let session = diesel_async::RunQueryDsl::get_result::<Session>(sql_query(SESSION), &mut connection);
    let session = session.await.map_err(|error| ConnectionError::BadConnection(text(&error)))?;
    Ok((connection, session.identity))
}
