//! Supervision of PostgreSQL: connections to a server that is no longer the primary are left, and while there
//! is none requests are refused at once. Readiness does not follow it: it would take every instance away
//! together.

use std::time::Duration;

use metrics::gauge;
use migrations::pool::{PgPool, Supervisor};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Time between two looks. A loss shows within 2 s.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks while PostgreSQL is away: requests are refused until the next one.
const LOOK_INTERVAL_AWAY: Duration = Duration::from_millis(400);

/// Looks after the pool until `stop`, and says in logs and in `datafly_dependency_up` whether PostgreSQL is
/// there.
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
