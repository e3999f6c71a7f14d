//! What the edge reads from its environment.

use std::net::{Ipv4Addr, SocketAddr};

use secrecy::ExposeSecret;
use serve::{Env, EnvError, TrustedProxies};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

/// Every variable the edge knows.
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

/// The edge's settings.
pub struct Config {
    /// `Bearer …` for the core; marked sensitive, so that it is never printed.
    pub service_token: MetadataValue<Ascii>,
    /// The cores, with TLS where it is wanted.
    pub cores: Vec<Endpoint>,
    /// Where browsers arrive.
    pub listen_addr: SocketAddr,
    /// Where `/metrics` and health are.
    pub metrics_addr: SocketAddr,
    /// See [`serve::telemetry::init`].
    pub log_level: String,
    /// Whose `X-Forwarded-*` counts.
    pub trusted_proxies: TrustedProxies,
}

impl Config {
    /// Reads and checks all of it.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        env.not_built("OTLP_ENDPOINT")?;
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
