//! Settings of the edge, read from its environment.

use serve::{
    Env, EnvError, TrustedProxies,
    process::{CoreConfig, ProcessConfig},
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
    /// Addresses and log level.
    pub process: ProcessConfig,
    /// The way to the core.
    pub core: CoreConfig,
    /// Proxies whose `X-Forwarded-*` counts.
    pub trusted_proxies: TrustedProxies,
}

impl Config {
    /// Reads and checks all settings; an error names the variable.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        Ok(Self {
            process: ProcessConfig::read(env, 8080, 9080)?,
            core: CoreConfig::read(env)?,
            trusted_proxies: env.parsed_or("TRUSTED_PROXIES", TrustedProxies::default())?,
        })
    }
}
