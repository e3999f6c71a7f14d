//! The settings that every process has, and those of processes that call the core.

use std::net::{Ipv4Addr, SocketAddr};

use secrecy::{ExposeSecret, SecretString};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

use crate::{Env, EnvError, tls};

/// The settings of any process: where it listens, and what it logs.
pub struct ProcessConfig {
    /// Address that the service listens on.
    pub listen_addr: SocketAddr,
    /// Address that `/metrics` and health listen on.
    pub metrics_addr: SocketAddr,
    /// Log filter, as [`crate::telemetry::init`] takes it.
    pub log_level: String,
}

impl ProcessConfig {
    /// Reads `LISTEN_ADDR`, `METRICS_ADDR` and `LOG_LEVEL`; the ports are what the addresses have unless they
    /// are set.
    pub fn read(env: &Env, port: u16, metrics_port: u16) -> Result<Self, EnvError> {
        env.unimplemented("OTLP_ENDPOINT")?;
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Ok(Self {
            listen_addr: env.parsed_or("LISTEN_ADDR", any(port))?,
            metrics_addr: env.parsed_or("METRICS_ADDR", any(metrics_port))?,
            log_level: env.parsed_or("LOG_LEVEL", "info".to_owned())?,
        })
    }
}

/// The way to the core, for processes that call it.
pub struct CoreConfig {
    /// `Bearer …`, the process's own service token; marked sensitive, so that it is never printed.
    pub service_token: MetadataValue<Ascii>,
    /// Endpoints of the cores, with TLS where it is wanted.
    pub cores: Vec<Endpoint>,
}

impl CoreConfig {
    /// Reads `SERVICE_TOKEN` and `IDENTITY_URL`.
    pub fn read(env: &Env) -> Result<Self, EnvError> {
        let token = env.required_secret("SERVICE_TOKEN")?;
        let mut service_token = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| EnvError::malformed("SERVICE_TOKEN", "must be visible ASCII"))?;
        service_token.set_sensitive(true);
        Ok(Self { service_token, cores: tls::endpoints(env, "IDENTITY_URL")? })
    }
}

/// Reads `ALLOW_LOOPBACK`: true where customers' hosts may be on this machine or in a private network. Absent: not.
pub fn allow_loopback(env: &Env) -> Result<bool, EnvError> {
    const NAME: &str = "ALLOW_LOOPBACK";
    match env.optional(NAME)?.as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(EnvError::malformed(NAME, "must be true or false")),
    }
}

/// Reads a secret that is rotated: the current one by `parse`, and the previous one, where it is set, by
/// `parse_previous`, which may take what is good for nothing but to be rotated away. An error names the variable and
/// says what they do.
pub fn rotated<T, E: std::fmt::Display>(
    env: &Env,
    [current, previous]: [&'static str; 2],
    parse: impl Fn(&SecretString) -> Result<T, E>,
    parse_previous: impl Fn(&SecretString) -> Result<T, E>,
) -> Result<(T, Option<T>), EnvError> {
    let now = parse(&env.required_secret(current)?).map_err(|why| EnvError::malformed(current, why))?;
    let before = env.secret(previous)?.map(|text| parse_previous(&text)).transpose();
    Ok((now, before.map_err(|why| EnvError::malformed(previous, why))?))
}
