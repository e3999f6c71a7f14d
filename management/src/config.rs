//! Settings that management reads from its environment. All of them are checked at the start, also those that
//! only later routes use: a bad value must not surface days after the rollout.

use std::{collections::HashSet, sync::Arc};

use migrations::{
    database::Database,
    sealed::{SealKey, SealKeys},
    tls::{StoreTls, TlsError},
};
use secrecy::{ExposeSecret, SecretString};
use serve::{
    Env, EnvError, TrustedProxies,
    process::{self, CoreConfig, ProcessConfig},
};

/// Names of all variables that management knows.
pub const KNOWN: &[&str] = &[
    "DATABASE_URL",
    "DATAFLY_ENCRYPTION_KEY",
    "DATAFLY_ENCRYPTION_KEY_PREVIOUS",
    "JWT_SECRET",
    "JWT_SECRET_PREVIOUS",
    "SERVICE_TOKEN",
    "IDENTITY_URL",
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
    "TRUSTED_PROXIES",
    "OWNER_PASSWORD",
    "ALLOW_LOOPBACK",
];

/// Shortest secret for tokens, in bytes: the output of HS256's hash (RFC 7518, 3.2).
const MIN_JWT_SECRET_BYTES: usize = 32;
/// Fewest different bytes in such a secret: 32 random hex digits have more.
const MIN_DISTINCT_BYTES: usize = 8;
/// Words that examples are full of, in letters and digits alone. A random secret has none of them.
const PLACEHOLDERS: &[&str] = &[
    "changeme",
    "changethis",
    "placeholder",
    "yoursecret",
    "yourjwt",
    "jwtsecret",
    "supersecret",
    "topsecret",
    "secretkey",
    "replaceme",
    "replacethis",
    "notasecret",
    "example",
    "default",
    "insecure",
    "password",
];

/// Settings of management, each of them checked.
pub struct Config {
    /// The database, with credentials.
    pub database: Database,
    /// Seals and opens credentials.
    pub keys: Arc<SealKeys>,
    /// Secret that signs tokens, and checks them.
    pub jwt_secret: SecretString,
    /// Secret before it: tokens that it signed are still good.
    pub jwt_secret_previous: Option<SecretString>,
    /// The way to the core.
    pub core: CoreConfig,
    /// Proxies whose X-Forwarded-For counts.
    pub trusted_proxies: TrustedProxies,
    /// True where customers' hosts may be on loopback or private addresses.
    pub allow_loopback: bool,
    /// Addresses and log level.
    pub process: ProcessConfig,
}

impl Config {
    /// Reads and checks all variables. The first bad one is named in the error, never its value.
    pub fn from_env(env: &Env) -> Result<Self, EnvError> {
        let process = ProcessConfig::read(env, 8084, 9084)?;
        let (jwt_secret, jwt_secret_previous) = jwt_secrets(env)?;
        let tls = store_tls(env)?;
        let database = parse_database(env, &tls)?;
        tls.refuse_unused(database.uses_tls()).map_err(unfit)?;
        Ok(Self {
            process,
            core: CoreConfig::read(env)?,
            database,
            keys: Arc::new(seal_keys(env)?),
            jwt_secret,
            jwt_secret_previous,
            allow_loopback: process::allow_loopback(env)?,
            trusted_proxies: env.parsed_or("TRUSTED_PROXIES", TrustedProxies::default())?,
        })
    }
}

/// Reads where PostgreSQL is, for a command that needs nothing else of it.
pub fn database(env: &Env) -> Result<Database, EnvError> {
    parse_database(env, &store_tls(env)?)
}

fn parse_database(env: &Env, tls: &StoreTls) -> Result<Database, EnvError> {
    const NAME: &str = "DATABASE_URL";
    Database::parse(&env.required_secret(NAME)?, tls).map_err(|why| EnvError::malformed(NAME, why))
}

fn store_tls(env: &Env) -> Result<StoreTls, EnvError> {
    let [ca, cert, key] = StoreTls::VARIABLES;
    StoreTls::parse([env.secret(ca)?, env.secret(cert)?, env.secret(key)?]).map_err(unfit)
}

fn unfit(error: TlsError) -> EnvError {
    EnvError::malformed(error.variable, error.why)
}

/// Keys that seal and open, the current and the previous one.
pub fn seal_keys(env: &Env) -> Result<SealKeys, EnvError> {
    let (read, read_previous) = (SealKey::random_from_hex, SealKey::from_hex);
    let (current, previous) = process::rotated(env, SealKeys::VARIABLES, read, read_previous)?;
    Ok(SealKeys::new(current, previous))
}

fn jwt_secrets(env: &Env) -> Result<(SecretString, Option<SecretString>), EnvError> {
    const PREVIOUS: &str = "JWT_SECRET_PREVIOUS";
    let current = no_placeholder("JWT_SECRET", env.required_secret("JWT_SECRET")?)?;
    let previous = env.secret(PREVIOUS)?.map(|text| no_placeholder(PREVIOUS, text)).transpose()?;
    if previous.as_ref().is_some_and(|previous| previous.expose_secret() == current.expose_secret()) {
        return Err(EnvError::malformed(PREVIOUS, "must not be JWT_SECRET"));
    }
    Ok((current, previous))
}

/// Refuses a secret that nobody has chosen: readers of the same example could sign tokens.
fn no_placeholder(name: &'static str, secret: SecretString) -> Result<SecretString, EnvError> {
    let text = secret.expose_secret();
    if text.len() < MIN_JWT_SECRET_BYTES {
        return Err(EnvError::malformed(name, format_args!("must be at least {MIN_JWT_SECRET_BYTES} bytes")));
    }
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let few = text.bytes().collect::<HashSet<_>>().len() < MIN_DISTINCT_BYTES;
    if few || PLACEHOLDERS.iter().any(|word| letters.contains(word)) {
        return Err(EnvError::malformed(name, "is a placeholder; take one from `openssl rand -hex 32`"));
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
        assert_eq!(config.process.listen_addr.port(), 8084);
        assert_eq!(config.process.metrics_addr.port(), 9084);
    }

    #[test]
    fn every_variable_is_checked_and_named_at_the_start() {
        for change in [
            ("DATABASE_URL", ""),
            ("DATABASE_URL", "postgres://x?sslmode=allow"),
            ("TLS_STORES_CA", "no PEM at all"),
            ("DATAFLY_ENCRYPTION_KEY", "abc"),
            ("DATAFLY_ENCRYPTION_KEY_PREVIOUS", "zz"),
            ("JWT_SECRET", "short"),
            ("JWT_SECRET", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ("JWT_SECRET", "your-256-bit-secret-Change_Me-0123456789"),
            ("JWT_SECRET", "my.default.jwt.secret.for.development.1"),
            ("JWT_SECRET_PREVIOUS", "short"),
            ("JWT_SECRET_PREVIOUS", GOOD[2].1),
            ("SERVICE_TOKEN", ""),
            ("IDENTITY_URL", "core:50051"),
            ("TRUSTED_PROXIES", "everyone"),
            ("ALLOW_LOOPBACK", "maybe"),
            ("LISTEN_ADDR", "8084"),
            ("OTLP_ENDPOINT", "http://x"),
        ] {
            let error = config(change).err().unwrap().to_string();
            assert!(error.starts_with(change.0) && !error.contains('\n'), "{error}");
            assert!(change.1.len() < 2 || !error.contains(change.1), "{error}");
        }
    }
}
