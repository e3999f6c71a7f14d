//! Parts that the end-to-end tests and the demo are built from: private PostgreSQL and Redis, the built
//! binaries as processes, a proxy that counts and breaks connections, vendors over real HTTP, and a small
//! browser.
//!
//! Nothing here is a mock of something this project ships: only the vendors are simulated.

pub mod answers;
pub mod browser;
pub mod certificates;
pub mod chromium;
pub mod clock;
pub mod cluster;
pub mod consent_strings;
pub mod control;
pub mod database;
pub mod delivery;
pub mod delivery_sim;
pub mod delivery_story;
pub mod enrich_sim;
pub mod enrich_story;
pub mod grpc;
pub mod health;
pub mod http2;
pub mod imports;
pub mod metrics;
pub mod people;
pub mod postgres;
pub mod process;
pub mod profile_sim;
pub mod profile_story;
pub mod providers;
pub mod proxy;
pub mod raw;
pub mod recovery;
pub mod redis;
pub mod round_trips;
pub mod seed;
pub mod shop;
pub mod signature;
pub mod stores;
pub mod story;
pub mod system;
pub mod uid2_operator;
pub mod vendor_sim;
pub mod visits;
pub mod wire;
pub mod world;
pub mod writers;

use std::time::Duration;

use tokio::time::Instant;

/// Time that [`eventually`] waits. Generous: a slow machine is no defect, a condition that never comes is.
pub const EVENTUALLY_LIMIT: Duration = Duration::from_secs(20);

/// Polls `check` until it answers `Ok`, and panics with its last complaint when [`EVENTUALLY_LIMIT`] is over.
pub async fn eventually<T>(what: &str, check: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(EVENTUALLY_LIMIT, what, check).await
}

/// Polls `check` until it answers `Ok`, and panics with its last complaint when `limit` is over.
pub async fn within<T>(limit: Duration, what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let complaint = match check().await {
            Ok(value) => return value,
            Err(complaint) => complaint,
        };
        assert!(Instant::now() < deadline, "gave up waiting for {what} after {limit:?}: {complaint}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
