//! Watching PostgreSQL: connections to a server that is no longer the primary are left, and while there is none
//! requests are refused at once. Readiness does not follow it: it would take every instance away together.

use std::time::Duration;

use metrics::gauge;
use migrations::pool::{PgPool, Supervisor};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often there is a look. A loss shows within 2 s (threats.md concern 32).
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same while it is away: requests are refused until the next look.
const LOOK_INTERVAL_AWAY: Duration = Duration::from_millis(400);

/// Watches until `stop`.
pub async fn supervise_until(postgres: PgPool, stop: CancellationToken) {
    let mut supervisor = Supervisor::new(postgres);
    let mut tick = interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = true;
    loop {
        let up = supervisor.look().await;
        gauge!("datafly_dependency_up", "dependency" => "postgres").set(if up { 1.0 } else { 0.0 });
        match (before, up) {
            (true, false) => tracing::error!(dependency = "postgres", "away"),
            (false, true) => tracing::info!(dependency = "postgres", "back"),
            _ => {}
        }
        before = up;
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick(), if up => {}
            () = tokio::time::sleep(LOOK_INTERVAL_AWAY), if !up => {}
        }
    }
}
