//! Draining `redis_repairs`: keys that could not be marked before a commit are dropped, so that readers load
//! them anew. Any instance drains; rows are taken with SKIP LOCKED.

use std::time::Duration;

use diesel_async::AsyncConnection;
use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use super::{Stores, postgres::repairs};
use crate::error::Result;

/// How often there is a look for repairs. Recovery is due 2 s after Redis is back (threats.md F01).
const PERIOD: Duration = Duration::from_secs(1);
/// Rows a transaction.
const BATCH: i64 = 500;

/// Drains until `stop`.
pub async fn drain_until(stores: Stores, stop: CancellationToken) {
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        loop {
            match drain_batch(&stores).await {
                Ok(0) => break,
                Ok(drained) => tracing::info!(drained, "redis repaired"),
                Err(error) => {
                    tracing::debug!(%error, "repairs wait");
                    break;
                }
            }
        }
    }
}

/// Repairs up to [`BATCH`] rows. They are deleted in the transaction that invalidates their keys; a kill in
/// between repeats the harmless half.
async fn drain_batch(stores: &Stores) -> Result<usize> {
    let mut connection = stores.postgres.get().await?;
    let drained = connection
        .transaction(async |connection| {
            let taken = repairs::take(connection, BATCH).await?;
            gauge!("datafly_redis_repairs_age_seconds").set(taken.oldest_age_seconds);
            if !taken.keys.is_empty() {
                stores.redis.invalidate(&taken.keys).await?;
                repairs::remove(connection, &taken.ids).await?;
            }
            Ok::<_, crate::error::Error>(taken.ids.len())
        })
        .await?;
    counter!("datafly_redis_repairs_done_total").increment(u64::try_from(drained).unwrap_or_default());
    Ok(drained)
}
