//! What management reads from its environment. All of it is checked at the start, also what only later
//! routes use: a bad value must not surface days after the rollout.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use http::Uri;
use migrations::sealed::{SealKey, SealKeys};
use secrecy::{ExposeSecret, SecretString};
use serve::{Env, EnvError, TrustedProxies};
use tonic::metadata::{Ascii, MetadataValue};

/// Every variable management knows.
pub const KNOWN: &[&str] = &[
    "DATABASE_URL",
    "DATAFLY_ENCRYPTION_KEY",
    "DATAFLY_ENCRYPTION_KEY_PREVIOUS",
    "JWT_SECRET",
    "JWT_SECRET_PREVIOUS",
    "SERVICE_TOKEN",
    "IDENTITY_URL",
    "LISTEN_ADDR",
    "METRICS_ADDR",
    "LOG_LEVEL",
    "OTLP_ENDPOINT",
    "TRUSTED_PROXIES",
    "OWNER_PASSWORD",
];

/// Shortest secret for tokens, in bytes: the output of HS256's hash (RFC 7518, 3.2).
const MIN_JWT_SECRET: usize = 32;

/// Management's settings.
pub struct Config {
    /// PostgreSQL.
    pub database_url: SecretString,
    /// Seals and opens credentials.
    pub keys: Arc<SealKeys>,
    /// Signs tokens.
    pub jwt_secret: SecretString,
    /// What it signed is still good.
    pub jwt_secret_previous: Option<SecretString>,
    /// `Bearer …`, management's own service token.
    pub service_token: MetadataValue<Ascii>,
    /// Where the cores are.
    pub identity_urls: Vec<Uri>,
    /// Whose X-Forwarded-For counts.
    pub trusted_proxies: TrustedProxies,
    /// Where the API is.
    pub listen_addr: SocketAddr,
    /// Where `/metrics` and health are.
    pub metrics_addr: SocketAddr,
    /// See [`serve::telemetry::init`].
    pub log_level: String,
}

impl Config {
    /// Reads and checks all of it.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        env.not_built("OTLP_ENDPOINT")?;
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let jwt_secret = long_enough("JWT_SECRET", env.required_secret("JWT_SECRET")?)?;
        let jwt_secret_previous = env.secret("JWT_SECRET_PREVIOUS")?;
        let jwt_secret_previous =
            jwt_secret_previous.map(|text| long_enough("JWT_SECRET_PREVIOUS", text)).transpose()?;
        let token = env.required_secret("SERVICE_TOKEN")?;
        let mut service_token = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| EnvError::malformed("SERVICE_TOKEN", "has characters that a header can't hold"))?;
        service_token.set_sensitive(true);
        Ok(Self {
            service_token,
            identity_urls: env.addresses("IDENTITY_URL")?,
            database_url: env.required_secret("DATABASE_URL")?,
            keys: Arc::new(seal_keys(env)?),
            jwt_secret,
            jwt_secret_previous,
            trusted_proxies: env.parsed_or("TRUSTED_PROXIES", TrustedProxies::default())?,
            listen_addr: env.parsed_or("LISTEN_ADDR", any(8084))?,
            metrics_addr: env.parsed_or("METRICS_ADDR", any(9084))?,
            log_level: env.parsed_or("LOG_LEVEL", "info".to_owned())?,
        })
    }
}

/// The keys that seal and open.
pub fn seal_keys(env: &Env) -> Result<SealKeys, EnvError> {
    let key = seal_key("DATAFLY_ENCRYPTION_KEY", &env.required_secret("DATAFLY_ENCRYPTION_KEY")?)?;
    let previous = env.secret("DATAFLY_ENCRYPTION_KEY_PREVIOUS")?;
    let previous = previous.map(|text| seal_key("DATAFLY_ENCRYPTION_KEY_PREVIOUS", &text)).transpose()?;
    Ok(SealKeys::new(key, previous))
}

fn seal_key(name: &'static str, text: &SecretString) -> Result<SealKey, EnvError> {
    SealKey::from_hex(text).map_err(|why| EnvError::malformed(name, why))
}

fn long_enough(name: &'static str, secret: SecretString) -> Result<SecretString, EnvError> {
    if secret.expose_secret().len() < MIN_JWT_SECRET {
        return Err(EnvError::malformed(name, format_args!("must be at least {MIN_JWT_SECRET} bytes")));
    }
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("DATABASE_URL", "postgres://x"),
        ("DATAFLY_ENCRYPTION_KEY", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("SERVICE_TOKEN", "t"),
        ("IDENTITY_URL", "http://127.0.0.1:50051"),
    ];

    fn config(change: (&'static str, &str)) -> Result<Config, EnvError> {
        let pairs = GOOD.into_iter().filter(|(name, _)| *name != change.0).chain([change]);
        Config::from_env(&Env::from_pairs(KNOWN, pairs)?)
    }

    #[test]
    fn the_documented_environment_is_enough() {
        let config = config(("LOG_LEVEL", "")).unwrap();
        assert_eq!(config.listen_addr.port(), 8084);
        assert_eq!(config.metrics_addr.port(), 9084);
    }

    #[test]
    fn every_variable_is_checked_and_named_at_the_start() {
        for change in [
            ("DATABASE_URL", ""),
            ("DATAFLY_ENCRYPTION_KEY", "abc"),
            ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", "zz"),
            ("JWT_SECRET", "short"),
            ("JWT_SECRET_PREVIOUS", "short"),
            ("SERVICE_TOKEN", ""),
            ("IDENTITY_URL", "core:50051"),
            ("TRUSTED_PROXIES", "everyone"),
            ("LISTEN_ADDR", "8084"),
            ("OTLP_ENDPOINT", "http://x"),
        ] {
            let error = config(change).err().unwrap().to_string();
            assert!(error.starts_with(change.0) && !error.contains('\n'), "{error}");
            assert!(change.1.len() < 2 || !error.contains(change.1), "{error}");
        }
    }
}
