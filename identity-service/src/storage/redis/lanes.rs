//! Lanes: multiplexed connections that bb8 owns and requests clone, instead of holding one each. A clone writes
//! and reads together with others on the same socket, which costs Redis a fifth of the CPU of exclusive
//! connections (limits.md). Every thread that serves has one of its own, so that no answer wakes another core.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bb8_redis::{
    bb8::{ManageConnection, Pool},
    redis::{
        AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline,
        RedisError, ServerErrorKind, aio::MultiplexedConnection,
    },
};
use secrecy::{ExposeSecret, SecretString};

use crate::error::Result;

/// How long a command may take before PostgreSQL is asked instead.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// After a failure nobody else waits for Redis for that long; PostgreSQL serves at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The lanes to one Redis.
#[derive(Clone)]
pub struct Lanes {
    /// One for each of [`serve::workers::threads`], of one connection.
    pools: Arc<[Pool<LaneManager>]>,
    pause: Arc<Pause>,
    /// This process has committed what Redis was not told: until that is repaired nothing it says is believed.
    distrusted: Arc<AtomicBool>,
}

/// Until when Redis is left alone.
struct Pause {
    started: Instant,
    ends_ms: AtomicU64,
}

impl Pause {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn begin(&self) {
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        self.ends_ms.store(self.now_ms().saturating_add(pause), Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.now_ms() >= self.ends_ms.load(Ordering::Relaxed)
    }
}

/// One multiplexed connection, and whether it has failed.
#[derive(Clone)]
pub struct Lane {
    connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
}

impl Lanes {
    /// Lanes to the Redis of `url`; none is opened before it is needed.
    pub fn new(url: &SecretString) -> Result<Self, RedisError> {
        let client = Client::open(url.expose_secret().into_connection_info()?)?;
        let pool = |_| {
            Pool::builder()
                .max_size(1)
                .connection_timeout(CONNECT_TIMEOUT)
                .retry_connection(false)
                .test_on_check_out(true)
                .max_lifetime(None)
                .idle_timeout(None)
                .build_unchecked(LaneManager { client: client.clone() })
        };
        let pools = (0..serve::workers::threads()).map(pool).collect();
        let pause = Pause { started: Instant::now(), ends_ms: AtomicU64::new(0) };
        Ok(Self { pools, pause: Arc::new(pause), distrusted: Arc::default() })
    }

    /// Believes nothing that Redis says until [`Lanes::trust`].
    pub fn distrust(&self) {
        self.distrusted.store(true, Ordering::Release);
    }

    /// Redis has been told everything.
    pub fn trust(&self) {
        self.distrusted.store(false, Ordering::Release);
    }

    /// Whether repairs of this process are still to be made.
    pub fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Acquire)
    }

    /// Sends one command.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.run(async |lane: &mut MultiplexedConnection| command.query_async(lane).await).await
    }

    /// Sends commands in one round trip, and reads the answers in order.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T> {
        if self.is_distrusted() {
            return Err(RedisError::from((ErrorKind::Io, "redis waits for repairs")).into());
        }
        self.repair(pipeline).await
    }

    /// The same, also while Redis is distrusted: for what mends it.
    pub async fn repair<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T> {
        self.run(async |lane: &mut MultiplexedConnection| pipeline.query_async(lane).await).await
    }

    async fn run<T>(
        &self,
        send: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T> {
        if !self.pause.is_over() {
            return Err(RedisError::from((ErrorKind::Io, "redis failed just now")).into());
        }
        // The checkout lasts for the clone only.
        let none = || RedisError::from((ErrorKind::Io, "this thread has no lane"));
        let pool = self.pools.get(serve::workers::index()).ok_or_else(none)?;
        let lane = pool.get().await.inspect_err(|_| self.pause.begin())?.clone();
        let mut connection = lane.connection;
        send(&mut connection).await.map_err(|error| {
            if ends_connection(&error) {
                lane.broken.store(true, Ordering::Relaxed);
                self.pause.begin();
            }
            error.into()
        })
    }
}

/// Errors after which a connection is left: the socket's own, and those of a server that is no longer, or not
/// yet, the one that takes writes. redis-rs keeps the latter (threats.md finding 1).
fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
            )
        )
}

/// Opens lanes for bb8.
struct LaneManager {
    client: Client,
}

impl ManageConnection for LaneManager {
    type Connection = Lane;
    type Error = RedisError;

    fn connect(&self) -> impl Future<Output = Result<Lane, RedisError>> + Send {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        async move {
            let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            Ok(Lane { connection, broken: Arc::default() })
        }
    }

    /// Looks at the mark only: a PING would double the commands, and succeeds on a demoted primary.
    async fn is_valid(&self, lane: &mut Lane) -> Result<(), RedisError> {
        if self.has_broken(lane) { Err((ErrorKind::Io, "lane is broken").into()) } else { Ok(()) }
    }

    fn has_broken(&self, lane: &mut Lane) -> bool {
        lane.broken.load(Ordering::Relaxed)
    }
}
