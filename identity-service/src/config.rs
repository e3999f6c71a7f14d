//! The core's environment variables, read and checked at its start.

use std::{sync::Arc, time::Duration};

use egress::{
    Egress,
    openings::{BadHosts, Openings},
};
use migrations::{
    database::Database,
    sealed::{SealKey, SealKeys},
    tls::{StoreTls, TlsError},
};
use secrecy::ExposeSecret;
use serve::{
    Env, EnvError, Networks,
    process::{self, ProcessConfig},
    tls::TlsAcceptor,
};

use crate::{auth::service_token::ServiceTokens, providers::duration, storage::redis::address::RedisAddress};

const KNOWN: &[&str] = &[
    "DATABASE_URL",
    "REDIS_URL",
    "DATAFLY_ENCRYPTION_KEY",
    "DATAFLY_ENCRYPTION_KEY_PREVIOUS",
    "SERVICE_TOKENS",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_CA",
    "TLS_STORES_CA",
    "TLS_STORES_CERT",
    "TLS_STORES_KEY",
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "LOG_LEVEL",
    "OTLP_ENDPOINT",
    "OUTBOUND_ALLOW_CIDRS",
    "OUTBOUND_ALLOW_HOSTS",
    "OUTBOUND_CA",
    "EVENT_LOG_KEEP",
    "EVENT_LOG_SOURCE_BYTES",
    "ALLOW_LOOPBACK",
];

/// The port that services and engineers expect the core at.
const PORT: u16 = 50051;
const METRICS_PORT: u16 = 9051;
/// Time for which the event log keeps what every destination has had, unless it is told.
const EVENT_LOG_KEEP: Duration = Duration::from_hours(24);
/// Bytes of a source's events that may wait for a destination, unless it is told: 10 GiB.
const EVENT_LOG_SOURCE_BYTES: i64 = 10 * 1024 * 1024 * 1024;

/// The settings that the core is told at its start.
pub struct Config {
    /// The database, with credentials.
    pub database: Database,
    /// The Redis, with credentials.
    pub redis: RedisAddress,
    /// Keys that open and seal credentials and states.
    pub keys: Arc<SealKeys>,
    /// Tokens of the services that may call.
    pub tokens: ServiceTokens,
    /// Addresses and log level.
    pub process: ProcessConfig,
    /// TLS that connections to it have to begin with; none: they are plain.
    pub tls: Option<TlsAcceptor>,
    /// The client of calls to vendors and to customers' own services.
    pub egress: Egress,
    /// Time for which the event log keeps what every destination has had.
    pub event_log_keep: Duration,
    /// Bytes of a source's events that may wait for a destination.
    pub event_log_source_bytes: i64,
    /// True where customers' hosts may be on loopback or private addresses.
    pub allow_loopback: bool,
}

impl Config {
    /// Reads where the core listens and what it logs, which everything else may have to say something in.
    pub fn process(env: &Env) -> Result<ProcessConfig, EnvError> {
        ProcessConfig::read(env, PORT, METRICS_PORT)
    }

    /// Reads and checks all other variables.
    ///
    /// `development` lets the core start without SERVICE_TOKENS and let everyone in.
    pub fn read(env: &Env, process: ProcessConfig, development: bool) -> Result<Self, EnvError> {
        let (read, read_previous) = (SealKey::random_from_hex, SealKey::from_hex);
        let (current, previous) = process::rotated(env, SealKeys::VARIABLES, read, read_previous)?;
        let tokens = match env.secret("SERVICE_TOKENS")? {
            None if development => {
                tracing::warn!("a development run without SERVICE_TOKENS: everyone may call everything");
                ServiceTokens::open()
            }
            _ => ServiceTokens::parse(env.required_secret("SERVICE_TOKENS")?.expose_secret())
                .map_err(|why| EnvError::malformed("SERVICE_TOKENS", why))?,
        };
        let tls = store_tls(env)?;
        let (database, redis) = (database(env, &tls)?, redis(env, &tls)?);
        tls.refuse_unused(database.uses_tls() || redis.uses_tls()).map_err(unfit)?;
        Ok(Self {
            database,
            redis,
            keys: Arc::new(SealKeys::new(current, previous)),
            tokens,
            tls: serve::tls::acceptor(env)?,
            process,
            egress: egress(env)?,
            event_log_keep: event_log_keep(env)?,
            event_log_source_bytes: event_log_source_bytes(env)?,
            allow_loopback: process::allow_loopback(env)?,
        })
    }

    /// Takes in the environment, before anything is read from it.
    pub fn environment() -> Result<Env, EnvError> {
        Env::read(KNOWN)
    }
}

/// Reads the variables for TLS to the stores.
pub fn store_tls(env: &Env) -> Result<StoreTls, EnvError> {
    let [ca, cert, key] = StoreTls::VARIABLES;
    StoreTls::parse([env.secret(ca)?, env.secret(cert)?, env.secret(key)?]).map_err(unfit)
}

/// Reads where PostgreSQL is.
pub fn database(env: &Env, tls: &StoreTls) -> Result<Database, EnvError> {
    const NAME: &str = "DATABASE_URL";
    Database::parse(&env.required_secret(NAME)?, tls).map_err(|why| EnvError::malformed(NAME, why))
}

/// Reads where Redis is.
pub fn redis(env: &Env, tls: &StoreTls) -> Result<RedisAddress, EnvError> {
    const NAME: &str = "REDIS_URL";
    let parsed = RedisAddress::parse(&env.required_secret(NAME)?, tls);
    parsed.map_err(|error| EnvError::malformed(NAME, format_args!("can't be used: {error}")))
}

/// Makes the client of outbound calls, with what the operator has opened.
fn egress(env: &Env) -> Result<Egress, EnvError> {
    const HOSTS: &str = "OUTBOUND_ALLOW_HOSTS";
    const CA: &str = "OUTBOUND_CA";
    let hosts = env.optional(HOSTS)?.map(|text| text.parse()).transpose();
    let openings = Openings {
        networks: env.parsed_or("OUTBOUND_ALLOW_CIDRS", Networks::default())?,
        hosts: hosts.map_err(|error: BadHosts| EnvError::malformed(HOSTS, error))?.unwrap_or_default(),
    };
    let authorities = env.secret(CA)?;
    let authorities = authorities.as_ref().map(ExposeSecret::expose_secret);
    Egress::new(openings, authorities).map_err(|error| EnvError::malformed(CA, error))
}

fn event_log_keep(env: &Env) -> Result<Duration, EnvError> {
    const NAME: &str = "EVENT_LOG_KEEP";
    let kept = env.optional(NAME)?.map(|text| duration::event_log(&text)).transpose();
    Ok(kept.map_err(|why| EnvError::malformed(NAME, why))?.unwrap_or(EVENT_LOG_KEEP))
}

fn event_log_source_bytes(env: &Env) -> Result<i64, EnvError> {
    const NAME: &str = "EVENT_LOG_SOURCE_BYTES";
    let bytes = env.parsed_or(NAME, EVENT_LOG_SOURCE_BYTES)?;
    if bytes > 0 { Ok(bytes) } else { Err(EnvError::malformed(NAME, "must be a number of bytes")) }
}

fn unfit(error: TlsError) -> EnvError {
    EnvError::malformed(error.variable, error.why)
}
