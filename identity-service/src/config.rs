//! The core's environment variables, read and checked at its start.

use std::sync::Arc;

use migrations::sealed::{SealKey, SealKeys};
use secrecy::{ExposeSecret, SecretString};
use serve::{
    Env, EnvError, Networks,
    process::{self, ProcessConfig},
    tls::TlsAcceptor,
};

use crate::auth::service_token::ServiceTokens;

const KNOWN: &[&str] = &[
    "DATABASE_URL",
    "REDIS_URL",
    "DATAFLY_ENCRYPTION_KEY",
    "DATAFLY_ENCRYPTION_KEY_PREVIOUS",
    "SERVICE_TOKENS",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_CA",
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "LOG_LEVEL",
    "OTLP_ENDPOINT",
    "OUTBOUND_ALLOW_CIDRS",
];

/// The port that services and engineers expect the core at.
const PORT: u16 = 50051;
const METRICS_PORT: u16 = 9051;

/// The settings that the core is told at its start.
pub struct Config {
    /// URL of PostgreSQL, with its credentials.
    pub database_url: SecretString,
    /// URL of Redis, with its credentials.
    pub redis_url: SecretString,
    /// Keys that open and seal credentials and states.
    pub keys: Arc<SealKeys>,
    /// Tokens of the services that may call.
    pub tokens: ServiceTokens,
    /// Addresses and log level.
    pub process: ProcessConfig,
    /// TLS that connections to it have to begin with; none: they are plain.
    pub tls: Option<TlsAcceptor>,
    /// Networks that calls for customers may go to beside public hosts.
    pub open_networks: Networks,
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
        Ok(Self {
            database_url: env.required_secret("DATABASE_URL")?,
            redis_url: env.required_secret("REDIS_URL")?,
            keys: Arc::new(SealKeys::new(current, previous)),
            tokens,
            tls: serve::tls::acceptor(env)?,
            process,
            open_networks: env.parsed_or("OUTBOUND_ALLOW_CIDRS", Networks::default())?,
        })
    }

    /// Takes in the environment, before anything is read from it.
    pub fn environment() -> Result<Env, EnvError> {
        Env::read(KNOWN)
    }
}
