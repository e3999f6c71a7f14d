//! Starting the core: in one line why not, or serving until it is told to stop.

use std::sync::Arc;

use event_log::PostgresLog;
use migrations::{migrate, pool::PgPool};
use serve::{EnvError, Exempt, Lifecycle, Workers};
use tonic_health::server::HealthReporter;

use crate::{
    app::App,
    clock,
    config::{self, Config},
    consistency::{self, CompareError},
    delivery::Keeper,
    enrich::Enrichment,
    graph::writer::GraphWriter,
    grpc,
    identity_admin::{IdentityAdmin, reaper},
    limits::{new_identities::NewIdentities, org_writes::OrgWrites, stranger_syncs::StrangerSyncs},
    pii::tombstone::TombstoneKeys,
    profile::Profiles,
    providers::{Tools, asking::Flights},
    resolve::{
        Resolver,
        consent_writer::ConsentWriter,
        contacts::StoredContacts,
        known_pairs::{DistinctUsers, ProvenUsers, UnderstoodConsents},
        link_token::LinkTokens,
    },
    settings::Settings,
    storage::{
        Stores,
        canonical_hints::CanonicalHints,
        key_uses,
        postgres::{
            create::Creator,
            custom_providers::{self, FillerRow},
        },
        redis::{client::RedisClient, purge, supervisor},
        repairs,
    },
    sync::{
        GatewaySync,
        breaker::Breakers,
        counters,
        self_check::{self, RecordError},
        shared_ids::SharedIds,
        state::StateKeys,
        used_states::UsedStates,
    },
    vendor_ids::writer::VendorIdWriter,
    vendors,
};

/// PostgreSQL connections of one instance (by measurement: more than 16 gained nothing on two cores).
const POSTGRES_CONNECTIONS: u32 = 16;

/// The reason why the core did not start, in one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A variable, or an address to listen at.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The schema is not the newest, or can't be asked for.
    #[error(transparent)]
    Migrate(#[from] migrate::MigrateError),
    /// The first look at the settings failed.
    #[error("DATABASE_URL: settings can't be loaded: {0}")]
    Settings(String),
    /// A vendor's record of which no sync can be made.
    #[error(transparent)]
    Vendor(#[from] RecordError),
    /// The descriptor set is damaged.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Applies pending migrations and says what was done.
pub async fn migrate() -> Result<Vec<String>, StartError> {
    let env = Config::environment()?;
    Ok(migrate::run(&config::database(&env, &config::store_tls(&env)?)?).await?)
}

/// Compares all that Redis holds with PostgreSQL, prints what differs and a table of counts. True where
/// nothing differs.
pub async fn compare() -> Result<bool, CompareError> {
    let env = Config::environment()?;
    let tls = config::store_tls(&env)?;
    consistency::compare(&config::database(&env, &tls)?, &config::redis(&env, &tls)?).await
}

/// Serves until SIGTERM or SIGINT, then drains. `development` allows a start without service tokens.
pub async fn run(development: bool) -> Result<(), StartError> {
    let env = Config::environment()?;
    let process = Config::process(&env)?;
    serve::telemetry::init("identity-service", &process.log_level)?;
    let config = Config::read(&env, process, development)?;
    self_check::check_all()?;
    migrate::check(&config.database).await?;

    let stores = Stores {
        postgres: PgPool::connect_lazily(&config.database, POSTGRES_CONNECTIONS),
        redis: RedisClient::new(config.redis.clone()),
        org_writes: OrgWrites::default(),
    };
    let tombstones = Arc::new(TombstoneKeys::derive(&config.keys));
    let (pool, keys) = (stores.postgres.clone(), config.keys.clone());
    let settings = Settings::load(pool, keys, tombstones.clone(), config.allow_loopback, counters::announce)
        .await
        .map_err(|error| StartError::Settings(error.to_string()))?;
    warn_of_taken_fields(&stores).await;
    let app = Arc::new(build(&config, &stores, &settings, tombstones));
    let backlog = app.keeper.backlog.clone();
    if let Err(error) = app.identity_admin.store_keys().await {
        tracing::warn!(%error, "keys of tombstones are not stored; the next start tries again");
    }

    let log = PostgresLog::new(stores.postgres.clone());
    reaper::keep_events(&log, config.event_log_keep, clock::now()).await;
    if let Err(error) = reaper::keep_months(&stores, clock::now()).await {
        tracing::warn!(%error, "months of used proofs are not kept; the reaper tries again");
    }

    let lifecycle = Lifecycle::new();
    lifecycle.on_signals()?;
    serve::metrics::listen(config.process.metrics_addr, &lifecycle).await?;
    let listener = serve::bind("LISTEN_ADDR", config.process.listen_addr).await?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let service = grpc::service(app, config.tokens, health)?;
    let workers = Workers::per_core(|| service.clone())?;
    lifecycle.set_started();
    spawn_background(&lifecycle, &stores, &settings, reporter);
    let (all, known, limit) = (stores.clone(), settings.clone(), config.event_log_source_bytes);
    lifecycle.spawn_supervised("backlog", move |stop| {
        backlog.clone().watch_until(all.clone(), known.clone(), limit, stop)
    });
    let keep = config.event_log_keep;
    lifecycle
        .spawn_supervised("reaper", move |stop| reaper::reap_until(stores.clone(), log.clone(), keep, stop));
    serve::serve_tls(listener, "grpc", Exempt::Vouched, config.tls, workers, lifecycle).await;
    tracing::info!("stopped");
    Ok(())
}

/// Logs each provider of a customer's own that fills a field which is reserved for a built-in vendor. It keeps
/// running, and the vendor can't be enabled on its source.
async fn warn_of_taken_fields(stores: &Stores) {
    let fields: Vec<&str> = vendors::reserved().collect();
    let fillers = async { custom_providers::fillers_of(&mut *stores.connection().await?, &fields).await };
    match fillers.await {
        Ok(fillers) => {
            for FillerRow { source_id, name, redis_field } in fillers {
                tracing::warn!(
                    source = %source_id,
                    provider = name,
                    field = redis_field,
                    "a custom provider fills a field that is reserved for a vendor, which can't be enabled on its source"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "custom providers can't be looked at"),
    }
}

/// Builds the core on its stores and settings.
fn build(config: &Config, stores: &Stores, settings: &Settings, tombstones: Arc<TombstoneKeys>) -> App {
    let vendor_ids = VendorIdWriter::start(stores, &tombstones);
    let breakers = Arc::<Breakers>::default();
    let tools = Tools::new(stores, &config.egress, &config.keys);
    App {
        stores: stores.clone(),
        settings: settings.clone(),
        resolver: Resolver {
            stores: stores.clone(),
            creator: Creator::start(stores),
            graph: GraphWriter::start(stores, &tombstones),
            consents: ConsentWriter::start(stores, settings),
            vendor_ids: vendor_ids.clone(),
            link_tokens: LinkTokens::derive(&config.keys),
            tombstones: tombstones.clone(),
            hints: CanonicalHints::default(),
            distinct_users: DistinctUsers::default(),
            proven_users: ProvenUsers::default(),
            understood: UnderstoodConsents::default(),
            contacts: StoredContacts::default(),
            breakers: breakers.clone(),
            new_identities: NewIdentities::default(),
        },
        keeper: Keeper::start(stores, PostgresLog::new(stores.postgres.clone()), config.keys.clone()),
        sync: GatewaySync {
            stores: stores.clone(),
            settings: settings.clone(),
            states: StateKeys::derive(&config.keys),
            used_states: UsedStates::default(),
            breakers,
            shared_ids: SharedIds::default(),
            stranger_syncs: StrangerSyncs::default(),
            writer: vendor_ids.clone(),
            tombstones: tombstones.clone(),
        },
        identity_admin: IdentityAdmin { stores: stores.clone(), tombstones, seal_keys: config.keys.clone() },
        profiles: Profiles::new(stores, &tools),
        enrichment: Enrichment {
            tools,
            settings: settings.clone(),
            writer: vendor_ids.clone(),
            flights: Flights::default(),
        },
    }
}

/// Starts what goes on beside the calls.
fn spawn_background(lifecycle: &Lifecycle, stores: &Stores, settings: &Settings, reporter: HealthReporter) {
    let redis = stores.redis.clone();
    lifecycle.spawn_supervised("redis", move |stop| supervisor::watch(redis.clone(), stop));
    let redis = stores.redis.clone();
    lifecycle.spawn_supervised("purge", move |stop| purge::purge_until(redis.clone(), stop));
    let (all, life) = (stores.clone(), lifecycle.clone());
    lifecycle.spawn_supervised("health", move |_| grpc::watch(all.clone(), reporter.clone(), life.clone()));
    let (all, known) = (stores.clone(), settings.clone());
    lifecycle
        .spawn_supervised("last_use", move |stop| key_uses::write_until(all.clone(), known.clone(), stop));
    let known = settings.clone();
    lifecycle.spawn_supervised("settings", move |stop| known.clone().poll_until(stop));
    let all = stores.clone();
    lifecycle.spawn_supervised("repairs", move |stop| repairs::drain_until(all.clone(), stop));
}
