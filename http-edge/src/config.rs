//! Settings of the edge, read from its environment.

use std::net::{Ipv4Addr, SocketAddr};

use secrecy::ExposeSecret;
use serve::{Env, EnvError, TrustedProxies};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

/// Variables that the edge knows; a secret may also be given as `NAME_FILE`.
pub const KNOWN: &[&str] = &[
    "SERVICE_TOKEN",
    "IDENTITY_URL",
    "TLS_CERT",
    "TLS_KEY",
    "TLS_CA",
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "LOG_LEVEL",
    "OTLP_ENDPOINT",
    "TRUSTED_PROXIES",
];

/// Settings of the edge, all checked.
pub struct Config {
    /// `Bearer …` for the core; marked sensitive, so that it is never printed.
    pub service_token: MetadataValue<Ascii>,
    /// Addresses of the cores, with TLS where it is wanted.
    pub cores: Vec<Endpoint>,
    /// Address that browsers arrive at.
    pub listen_addr: SocketAddr,
    /// Address of `/metrics` and health.
    pub metrics_addr: SocketAddr,
    /// Log level, as [`serve::telemetry::init`] takes it.
    pub log_level: String,
    /// Proxies whose `X-Forwarded-*` counts.
    pub trusted_proxies: TrustedProxies,
}

impl Config {
    /// Reads and checks all settings; an error names the variable.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        env.unimplemented("OTLP_ENDPOINT")?;
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let token = env.required_secret("SERVICE_TOKEN")?;
        let mut service_token = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| EnvError::malformed("SERVICE_TOKEN", "must be visible ASCII"))?;
        service_token.set_sensitive(true);
        Ok(Self {
            service_token,
            cores: serve::tls::endpoints(env, "IDENTITY_URL")?,
            listen_addr: env.parsed_or("LISTEN_ADDR", any(8080))?,
            metrics_addr: env.parsed_or("METRICS_ADDR", any(9080))?,
            log_level: env.parsed_or("LOG_LEVEL", "info".to_owned())?,
            trusted_proxies: env.parsed_or("TRUSTED_PROXIES", TrustedProxies::default())?,
        })
    }
}
