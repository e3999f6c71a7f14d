//! Structured logs on standard output.

use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::EnvError;

/// Crates of this workspace; they log at the level asked for, all others at `warn`.
const OWN_CRATES: [&str; 6] = ["serve", "http_edge", "identity_service", "management", "migrations", "proto"];
/// What `LOG_LEVEL` may be.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Starts JSON logging at `level` (the value of `LOG_LEVEL`: error, warn, info, debug or trace) and turns
/// panics into log lines. Only the first call of a process has an effect.
pub fn init(service: &'static str, level: &str) -> Result<(), EnvError> {
    let filter = directives(level)?;
    let filter = EnvFilter::try_new(filter).map_err(|_| EnvError::malformed("LOG_LEVEL", "is malformed"))?;
    // An error means that a subscriber is there already, as in tests.
    let _ = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).try_init();
    std::panic::set_hook(Box::new(move |info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        error!(service, at, message = info.payload_as_str().unwrap_or("panic"));
    }));
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    Ok(())
}

fn directives(level: &str) -> Result<String, EnvError> {
    if !LEVELS.contains(&level) {
        return Err(EnvError::malformed("LOG_LEVEL", "must be error, warn, info, debug or trace"));
    }
    let third_party = if level == "error" { "error" } else { "warn" };
    Ok(OWN_CRATES.iter().fold(third_party.to_owned(), |all, own| all + "," + own + "=" + level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_five_levels_are_taken() {
        assert!(directives("debug").unwrap().starts_with("warn,serve=debug,http_edge=debug"));
        assert!(directives("error").unwrap().starts_with("error,"));
        for bad in ["", "INFO", "off", "info,hyper=trace"] {
            assert_eq!(directives(bad).unwrap_err().to_string().split(' ').next(), Some("LOG_LEVEL"));
        }
    }
}
