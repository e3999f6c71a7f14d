//! Starting the core: in one line why not, or serving until it is told to stop.

use std::sync::Arc;

use migrations::{migrate, pool::PgPool};
use secrecy::ExposeSecret;
use serve::{EnvError, Lifecycle, Workers};
use tonic_health::server::HealthReporter;

use crate::{
    app::Core,
    auth::last_use,
    config::Config,
    graph::writer::GraphWriter,
    grpc,
    identity_admin::reaper,
    limits::org_writes::Turns,
    pii::tombstone::TombstoneKeys,
    resolve::{
        canonical_hints::Guesses,
        consent_writer::ConsentWriter,
        contacts::Remembered,
        known_pairs::{Strangers, Vouched},
        link_token::LinkTokens,
    },
    settings::Settings,
    storage::{
        Stores,
        postgres::create::Creator,
        redis::{client::Lanes, purge, supervisor},
        repairs,
    },
    sync::state::StateKeys,
    vendor_ids::writer::SyncWriter,
};

/// PostgreSQL connections of one instance (limits.md: more than 16 gained nothing on two cores).
const POSTGRES_CONNECTIONS: u32 = 16;

/// Why the core did not start, in one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable, or an address to listen at.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The schema.
    #[error(transparent)]
    Migrate(#[from] migrate::MigrateError),
    /// DATABASE_URL does not parse.
    #[error("DATABASE_URL: {0}")]
    Postgres(#[from] diesel::ConnectionError),
    /// REDIS_URL does not parse.
    #[error("REDIS_URL: {0}")]
    Redis(#[from] bb8_redis::redis::RedisError),
    /// The first look at the settings failed.
    #[error("DATABASE_URL: settings can't be loaded: {0}")]
    Settings(String),
    /// The descriptor set is damaged.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Applies pending migrations and says which.
pub async fn migrate() -> Result<Vec<String>, StartError> {
    let env = Config::environment()?;
    let url = env.required_secret("DATABASE_URL")?;
    Ok(migrate::run(url.expose_secret()).await?)
}

/// Serves until SIGTERM or SIGINT, then drains. `development` allows a start without service tokens.
pub async fn run(development: bool) -> Result<(), StartError> {
    let env = Config::environment()?;
    serve::telemetry::init("identity-service", &env.parsed_or("LOG_LEVEL", "info".to_owned())?)?;
    let config = Config::read(&env, development)?;
    migrate::check(config.database_url.expose_secret()).await?;

    let stores = Stores {
        postgres: PgPool::connect_lazily(&config.database_url, POSTGRES_CONNECTIONS)?,
        redis: Lanes::new(&config.redis_url)?,
        turns: Turns::default(),
    };
    let settings = Settings::load(stores.postgres.clone(), config.keys.clone())
        .await
        .map_err(|error| StartError::Settings(error.to_string()))?;
    let tombstones = Arc::new(TombstoneKeys::derive(&config.keys));
    let core = Arc::new(Core {
        creator: Creator::start(&stores),
        graph: GraphWriter::start(&stores, &tombstones),
        consents: ConsentWriter::start(&stores, &settings),
        syncs: SyncWriter::start(&stores, &tombstones),
        states: StateKeys::derive(&config.keys),
        link_tokens: LinkTokens::derive(&config.keys),
        tombstones,
        contacts: Remembered::default(),
        guesses: Guesses::default(),
        strangers: Strangers::default(),
        vouched: Vouched::default(),
        open_networks: config.open_networks,
        settings: settings.clone(),
        stores: stores.clone(),
    });

    let lifecycle = Lifecycle::new();
    lifecycle.on_signals()?;
    serve::metrics::listen(config.metrics, &lifecycle).await?;
    let listener = serve::bind("LISTEN_ADDR", config.listen).await?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let service = grpc::service(core, config.tokens, health)?;
    let workers = Workers::per_core(|| service.clone())?;
    lifecycle.set_started();
    keep_up(&lifecycle, &stores, &settings, reporter);
    serve::serve_tls(listener, "grpc", config.tls, workers, lifecycle).await;
    tracing::info!("stopped");
    Ok(())
}

/// What goes on beside the calls.
fn keep_up(lifecycle: &Lifecycle, stores: &Stores, settings: &Settings, reporter: HealthReporter) {
    let redis = stores.redis.clone();
    lifecycle.keep_up("redis", move |stop| supervisor::watch(redis.clone(), stop));
    let redis = stores.redis.clone();
    lifecycle.keep_up("purge", move |stop| purge::purge_until(redis.clone(), stop));
    let (all, life) = (stores.clone(), lifecycle.clone());
    lifecycle.keep_up("health", move |_| grpc::watch(all.clone(), reporter.clone(), life.clone()));
    let (all, known) = (stores.clone(), settings.clone());
    lifecycle.keep_up("last_use", move |stop| last_use::write_until(all.clone(), known.clone(), stop));
    let known = settings.clone();
    lifecycle.keep_up("settings", move |stop| known.clone().poll_until(stop));
    let all = stores.clone();
    lifecycle.keep_up("repairs", move |stop| repairs::drain_until(all.clone(), stop));
    let all = stores.clone();
    lifecycle.keep_up("reaper", move |stop| reaper::reap_until(all.clone(), stop));
}
