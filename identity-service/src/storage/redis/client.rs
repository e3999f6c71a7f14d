//! RedisClient: multiplexed connections that bb8 owns and requests clone, instead of holding one each. A clone writes
//! and reads together with others on the same socket, which costs Redis a fifth of the CPU of exclusive
//! connections. Every thread that serves has one of its own, so that no answer wakes another core.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    address::RedisAddress,
    server::Server,
    state::{Failure, State},
};
use crate::error::{Error, Result};
use arc_swap::ArcSwapOption;
use bb8_redis::{
    bb8::{ManageConnection, Pool, RunError},
    redis::{
        AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, Value,
        aio::MultiplexedConnection,
    },
};

/// The longest a read may take before PostgreSQL is asked instead. Redis answers within 1 ms; on a machine
/// whose cores are all busy within 20.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(50);
/// The longest that what a writer tells Redis may take. To do without costs a repair and a failed sync, so it
/// waits longer.
const WRITE_TIMEOUT: Duration = Duration::from_millis(200);
/// The longest a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// The client of one Redis; clones share its connections.
#[derive(Clone)]
pub struct RedisClient {
    /// Pools of one connection, one for each of [`serve::workers::threads`]; with the lane that it gave last,
    /// which needs no checkout until it is left.
    pools: Arc<[(Pool<Dialer>, ArcSwapOption<Lane>)]>,
    dialer: Dialer,
}

/// A multiplexed connection, with a mark that it is to be left. Requests that are under way end on it.
#[derive(Clone)]
pub struct Lane {
    pub(super) connection: MultiplexedConnection,
    left: Arc<AtomicBool>,
}

impl Lane {
    /// Leaves the lane, and says whether that is new.
    pub(super) fn leave(&self) -> bool {
        !self.left.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

impl RedisClient {
    /// RedisClient to the Redis of `address`; no connection is opened before it is needed.
    pub fn new(address: RedisAddress) -> Self {
        let dialer = Dialer { address, state: Arc::new(State::new()), opened: Arc::default() };
        let pool = |_| {
            let pool = Pool::builder()
                .max_size(1)
                .connection_timeout(CONNECT_TIMEOUT)
                .retry_connection(false)
                .test_on_check_out(true)
                .max_lifetime(None)
                .idle_timeout(None)
                .build_unchecked(dialer.clone());
            (pool, ArcSwapOption::empty())
        };
        let pools = (0..serve::workers::threads()).map(pool).collect();
        Self { pools, dialer }
    }

    /// Believes nothing that Redis says until [`RedisClient::trust`], as it could not be told of a change.
    pub fn distrust(&self, error: &Error) {
        self.state().distrust(error);
    }

    /// Believes Redis again as to repairs, as it has been told of all changes.
    pub fn trust(&self) {
        self.state().trust();
    }

    /// True while repairs of this process are still to be made.
    pub fn waits_for_repairs(&self) -> bool {
        self.state().waits_for_repairs()
    }

    /// True where a primary answers in time whose values are good, as the supervisor and requests have seen
    /// it.
    pub fn is_up(&self) -> bool {
        !self.state().is_away() && !self.state().is_unknown_server()
    }

    pub(super) fn state(&self) -> &State {
        &self.dialer.state
    }

    /// Opens a lane outside the pools.
    pub(super) async fn open(&self) -> Result<Lane, RedisError> {
        self.dialer.dial().await
    }

    /// Returns the lanes that are in use.
    pub(super) fn opened(&self) -> Vec<Lane> {
        self.dialer.opened().clone()
    }

    /// Leaves all lanes; the next request on each thread opens a new one.
    pub(super) fn leave_all(&self) {
        for lane in self.dialer.opened().iter() {
            lane.leave();
        }
    }

    /// Sends one command that neither believes nor changes a serving key, and whose effect counts.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let send = async |lane: &mut MultiplexedConnection| command.query_async(lane).await;
        self.run(false, WRITE_TIMEOUT, send).await
    }

    /// Sends commands in one round trip, and returns the answers in order. A key of another type than the command's
    /// has an error for its answer, and spoils no other; any other error is that of all.
    pub async fn pipeline(&self, mut pipeline: Pipeline) -> Result<Vec<Value>> {
        pipeline.ignore_errors();
        self.run(true, RESPONSE_TIMEOUT, async |lane: &mut MultiplexedConnection| {
            let answers: Vec<Value> = pipeline.query_async(lane).await?;
            let failed = answers.iter().find_map(|answer| match answer {
                Value::ServerError(error) if error.code() != "WRONGTYPE" => Some(error.clone()),
                _ => None,
            });
            failed.map_or(Ok(answers), |error| Err(error.into()))
        })
        .await
    }

    /// Sends what a writer says, or what mends. Sent also while what Redis says is not believed: it stays
    /// true, and a writer that kept back would only leave one more repair.
    pub async fn write<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T> {
        let send = async |lane: &mut MultiplexedConnection| pipeline.query_async(lane).await;
        self.run(false, WRITE_TIMEOUT, send).await
    }

    async fn run<T>(
        &self,
        trusted: bool,
        patience: Duration,
        send: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T> {
        let state = self.state();
        let refused = |why| Err(RedisError::from((ErrorKind::Io, why)).into());
        if state.is_away() {
            return refused("redis is away");
        }
        let lane = self.lane().await?;
        // After the checkout: it may have met another server.
        if trusted && state.is_distrusted() {
            return refused("redis may hold old values");
        }
        let mut connection = lane.connection.clone();
        connection.set_response_timeout(patience);
        match send(&mut connection).await {
            Ok(answer) => {
                state.answered();
                Ok(answer)
            }
            Err(error) => {
                // What a lane says that was left before is no news.
                if !lane.is_left()
                    && matches!(state.classify_failure(&error), Failure::Connection)
                    && lane.leave()
                {
                    state.leave(&error);
                }
                Err(error.into())
            }
        }
    }

    /// Returns this thread's lane, opened where it has none.
    async fn lane(&self) -> Result<Arc<Lane>> {
        let none = || RedisError::from((ErrorKind::Io, "this thread has no lane"));
        let (pool, last) = self.pools.get(serve::workers::index()).ok_or_else(none)?;
        if let Some(lane) = last.load_full().filter(|lane| !lane.is_left()) {
            return Ok(lane);
        }
        // The checkout lasts for the clone only. Boxed, as nearly no call comes this way and each would carry the
        // room for it.
        let lane = Box::pin(pool.get()).await.inspect_err(|error| self.not_opened(error))?.clone();
        let lane = Arc::new(lane);
        last.store(Some(lane.clone()));
        Ok(lane)
    }

    fn not_opened(&self, error: &RunError<RedisError>) {
        let late = || RedisError::from((ErrorKind::Io, "no connection in time"));
        let error = if let RunError::User(error) = error { error.clone() } else { late() };
        self.state().classify_failure(&error);
        self.state().leave(&error);
    }
}

/// Opens lanes, for bb8 and for the supervisor.
#[derive(Clone)]
struct Dialer {
    address: RedisAddress,
    state: Arc<State>,
    /// Lanes that were opened for requests and not left, one a pool.
    opened: Arc<Mutex<Vec<Lane>>>,
}

impl Dialer {
    fn opened(&self) -> MutexGuard<'_, Vec<Lane>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|lane| !lane.is_left());
        opened
    }

    /// Connects, and asks the server who it is: the name may lead to a replica, or to another primary.
    async fn dial(&self) -> Result<Lane, RedisError> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut connection = self.address.connect(config, CONNECT_TIMEOUT).await?;
        let lane = Lane { connection: connection.clone(), left: Arc::default() };
        // Known before it is checked, so that a purge which ends in between leaves it.
        self.opened().push(lane.clone());
        // A lane that fails here tells that Redis is away, which one late answer does not.
        connection.set_response_timeout(WRITE_TIMEOUT);
        let checked = Server::ask(&mut connection).await.map(|server| self.state.check_server(&server));
        checked.inspect_err(|_| {
            lane.leave();
        })?;
        Ok(lane)
    }
}

impl ManageConnection for Dialer {
    type Connection = Lane;
    type Error = RedisError;

    async fn connect(&self) -> Result<Lane, RedisError> {
        self.dial().await
    }

    /// Looks at the mark only, which the supervisor sets. A PING would double the commands.
    async fn is_valid(&self, lane: &mut Lane) -> Result<(), RedisError> {
        if self.has_broken(lane) { Err((ErrorKind::Io, "lane was left").into()) } else { Ok(()) }
    }

    fn has_broken(&self, lane: &mut Lane) -> bool {
        lane.is_left()
    }
}
