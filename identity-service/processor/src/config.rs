//! The processor's environment variables, read and checked at its start.

use std::sync::Arc;

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
    process::{self, CoreConfig, ProcessConfig},
};

/// Names of the variables that the processor knows.
pub const KNOWN: &[&str] = &[
    "DATABASE_URL",
    "DATAFLY_ENCRYPTION_KEY",
    "DATAFLY_ENCRYPTION_KEY_PREVIOUS",
    "SERVICE_TOKEN",
    "IDENTITY_URL",
    "TLS_CA",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_STORES_CA",
    "TLS_STORES_CERT",
    "TLS_STORES_KEY",
    "METRICS_ADDR",
    "LOG_LEVEL",
    "OTLP_ENDPOINT",
    "OUTBOUND_ALLOW_CIDRS",
    "OUTBOUND_ALLOW_HOSTS",
    "OUTBOUND_CA",
];

const METRICS_PORT: u16 = 9081;

/// The settings of the processor.
pub struct Config {
    /// The database, with credentials.
    pub database: Database,
    /// Keys that open what is kept, and seal what waits.
    pub keys: Arc<SealKeys>,
    /// The way to the core.
    pub core: CoreConfig,
    /// The client of calls to destinations.
    pub egress: Egress,
}

impl Config {
    /// Reads where metrics are served, and what is logged.
    pub fn process(env: &Env) -> Result<ProcessConfig, EnvError> {
        ProcessConfig::read(env, 0, METRICS_PORT)
    }

    /// Reads and checks all other variables.
    pub fn read(env: &Env) -> Result<Self, EnvError> {
        let (read, read_previous) = (SealKey::random_from_hex, SealKey::from_hex);
        let (current, previous) = process::rotated(env, SealKeys::VARIABLES, read, read_previous)?;
        Ok(Self {
            database: database(env)?,
            keys: Arc::new(SealKeys::new(current, previous)),
            core: CoreConfig::read(env)?,
            egress: egress(env)?,
        })
    }
}

/// Reads where PostgreSQL is.
pub fn database(env: &Env) -> Result<Database, EnvError> {
    const NAME: &str = "DATABASE_URL";
    let [ca, cert, key] = StoreTls::VARIABLES;
    let tls = StoreTls::parse([env.secret(ca)?, env.secret(cert)?, env.secret(key)?]).map_err(unfit)?;
    let database = Database::parse(&env.required_secret(NAME)?, &tls);
    let database = database.map_err(|why| EnvError::malformed(NAME, why))?;
    tls.refuse_unused(database.uses_tls()).map_err(unfit)?;
    Ok(database)
}

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

fn unfit(error: TlsError) -> EnvError {
    EnvError::malformed(error.variable, error.why)
}
