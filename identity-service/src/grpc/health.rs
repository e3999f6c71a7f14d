//! gRPC health: the service, and each store under a name of its own. Readiness does not follow a single
//! store: it would take every instance away at once.

use std::time::Duration;

use metrics::gauge;
use migrations::pool::Supervisor;
use serve::Lifecycle;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::storage::Stores;

/// Pause between looks at the stores, so that a loss shows within 2 s.
const PERIOD: Duration = Duration::from_secs(1);
/// The same pause while PostgreSQL is away: requests are refused until the next look.
const RETRY: Duration = Duration::from_millis(400);

/// The names that follow the whole service rather than a store.
const SERVICES: &[&str] = &[
    "",
    "datafly.identity.v1.AuthService",
    "datafly.identity.v1.ResolveService",
    "datafly.identity.v1.SyncService",
];

/// Watches the stores and reports, until the process ends.
pub async fn watch(stores: Stores, health: HealthReporter, lifecycle: Lifecycle) {
    let draining = lifecycle.draining();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before = [true, true];
    let mut supervisor = Supervisor::new(stores.postgres.clone());
    loop {
        let (postgres, redis) = (supervisor.look().await, stores.redis.is_up());
        for (name, up) in [("postgres", postgres), ("redis", redis)] {
            gauge!("datafly_dependency_up", "dependency" => name).set(if up { 1.0 } else { 0.0 });
            health.set_service_status(format!("dependency.{name}"), status(up)).await;
        }
        // Once a change, not once a request that had to do without.
        for (name, was, is) in [("postgres", before[0], postgres), ("redis", before[1], redis)] {
            match (was, is) {
                (true, false) => tracing::error!(dependency = name, "away"),
                (false, true) => tracing::info!(dependency = name, "back"),
                _ => {}
            }
        }
        before = [postgres, redis];
        lifecycle.set_dependencies(postgres || redis);
        for service in SERVICES {
            health.set_service_status(*service, status(lifecycle.is_ready())).await;
        }
        tokio::select! {
            () = draining.cancelled() => break,
            _ = tick.tick(), if postgres => {}
            () = tokio::time::sleep(RETRY), if !postgres => {}
        }
    }
    for service in SERVICES {
        health.set_service_status(*service, ServingStatus::NotServing).await;
    }
}

fn status(up: bool) -> ServingStatus {
    if up { ServingStatus::Serving } else { ServingStatus::NotServing }
}
