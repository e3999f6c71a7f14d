//! Starting the processor: in one line why not, or delivering until it is told to stop.

use std::sync::Arc;

use event_log::{LogKeys, PostgresLog};
use migrations::{migrate, pool::PgPool};
use serve::{Env, EnvError, Lifecycle};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    config::{self, Config},
    core_client::CoreClient,
    lease::Workers,
    prepare::Preparer,
    shared::Shared,
    storage::{Storage, StorageError},
    watch,
};

/// PostgreSQL connections of one process.
const POSTGRES_CONNECTIONS: u32 = 8;

/// The reason why the processor did not start, or did not do what it was asked, in one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable, or an address to listen at.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The schema is not the newest, or can't be asked for.
    #[error(transparent)]
    Migrate(#[from] migrate::MigrateError),
    /// The database did not do what it was asked.
    #[error("DATABASE_URL: {0}")]
    Storage(#[from] StorageError),
    /// There is no such destination.
    #[error("there is no destination {0}")]
    NoDestination(Uuid),
}

/// Delivers until SIGTERM or SIGINT, then drains.
pub async fn run() -> Result<(), StartError> {
    let env = Env::read(config::KNOWN)?;
    let process = Config::process(&env)?;
    serve::telemetry::init("event-processor", &process.log_level)?;
    let config = Config::read(&env)?;
    migrate::check(&config.database).await?;
    let pool = PgPool::connect_lazily(&config.database, POSTGRES_CONNECTIONS);
    let keys = Arc::new(LogKeys::derive(config.keys.clone()));
    let shared = Arc::new(Shared {
        storage: Storage::new(pool.clone()),
        log: PostgresLog::new(pool.clone()),
        preparer: Preparer { keys, core: CoreClient::new(&config.core.cores, config.core.service_token) },
        egress: config.egress,
        keys: config.keys,
    });
    let lifecycle = Lifecycle::new();
    lifecycle.on_signals()?;
    serve::metrics::listen(process.metrics_addr, &lifecycle).await?;
    let workers = Arc::new(Workers::new(shared));
    lifecycle.set_started();
    let (own, life) = (pool.clone(), lifecycle.clone());
    lifecycle
        .spawn_supervised("postgres", move |stop| watch::postgres_until(own.clone(), life.clone(), stop));
    lifecycle.spawn_supervised("count", move |stop| watch::count_until(pool.clone(), stop));
    let heads = workers.clone();
    lifecycle.spawn_supervised("heads", move |stop| {
        let heads = heads.clone();
        async move { heads.watch_heads_until(stop).await }
    });
    tracing::info!("delivering");
    workers.run_until(lifecycle.draining()).await;
    tracing::info!("stopped");
    Ok(())
}

/// Begins a replay of what arrived at a destination's source in a span of time, and prints its ID.
pub async fn replay(destination: Uuid, from: OffsetDateTime, to: OffsetDateTime) -> Result<(), StartError> {
    let database = config::database(&Env::read(config::KNOWN)?)?;
    let storage = Storage::new(PgPool::connect_lazily(&database, 1));
    let begun = storage.begin_replay(destination, (from, to)).await?;
    println!("{}", begun.ok_or(StartError::NoDestination(destination))?);
    Ok(())
}
