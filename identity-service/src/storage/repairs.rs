//! Draining `redis_repairs`: keys that could not be marked before a commit are dropped, so that readers load
//! them anew. Any instance drains; rows are taken with SKIP LOCKED.

use std::time::Duration;

use diesel_async::AsyncConnection;
use metrics::{counter, gauge};
use proto::v1::ErrorReason;
use tokio_util::sync::CancellationToken;

use super::{Stores, postgres::repairs, redis::protocol::Invalidated};
use crate::error::{Error, Result};

/// Pause between looks for repairs. Repairs are due to be made within 2 s after Redis is back.
const PERIOD: Duration = Duration::from_secs(1);
/// The same pause while repairs keep this process from believing Redis.
const URGENT_PERIOD: Duration = Duration::from_millis(100);
/// The longest a batch may take, whatever state the database is in.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Most rows in a transaction.
const MAX_BATCH_ROWS: i64 = 500;

/// Drains the table of repairs until `stop`.
pub async fn drain_until(stores: Stores, stop: CancellationToken) {
    loop {
        loop {
            let drained = tokio::time::timeout(TIMEOUT, drain_batch(&stores)).await;
            match drained.unwrap_or_else(|_| Err(Error::refused(ErrorReason::DeadlineExceeded))) {
                Ok(Drained { done: 0, failed: 0, others }) => {
                    if others == 0 {
                        stores.redis.trust();
                    }
                    break;
                }
                // What failed is tried again at once, so that it is parked soon and the rest has its turn.
                Ok(Drained { done, failed, .. }) => tracing::info!(done, failed, "redis repaired"),
                Err(error) => {
                    tracing::debug!(%error, "repairs wait");
                    break;
                }
            }
        }
        // While this process serves from PostgreSQL because of its own repairs, it is in a hurry.
        let pause = if stores.redis.waits_for_repairs() { URGENT_PERIOD } else { PERIOD };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The outcome of a batch.
struct Drained {
    done: usize,
    failed: usize,
    /// Rows that wait, but for those whose keys a writer has marked, which are not served either.
    others: i64,
}

/// Repairs up to [`MAX_BATCH_ROWS`] rows. Rows are deleted in the transaction that invalidates their keys; a kill in
/// between repeats the harmless half.
async fn drain_batch(stores: &Stores) -> Result<Drained> {
    let mut connection = stores.connection().await?;
    let drained = connection
        .transaction(async |connection| {
            let taken = repairs::take(connection, MAX_BATCH_ROWS).await?;
            gauge!("datafly_redis_repairs_age_seconds").set(taken.oldest_age_seconds);
            let (mut done, mut failed, mut busy) = (Vec::new(), Vec::new(), 0);
            if taken.keys.is_empty() {
                let others = repairs::waiting(connection).await?;
                return Ok(Drained { done: 0, failed: 0, others });
            }
            for (id, end) in taken.ids.into_iter().zip(stores.redis.invalidate(&taken.keys).await?) {
                match end {
                    Invalidated::Done => done.push(id),
                    Invalidated::Busy => busy += 1,
                    Invalidated::Failed => failed.push(id),
                }
            }
            repairs::remove(connection, &done).await?;
            let parked = repairs::fail(connection, &failed).await?;
            if parked > 0 {
                tracing::error!(parked, ids = ?failed, "redis_repairs that can't be made are left alone");
                counter!("datafly_redis_repairs_parked_total")
                    .increment(u64::try_from(parked).unwrap_or_default());
            }
            let others = repairs::waiting(connection).await? - busy;
            Ok::<_, Error>(Drained { done: done.len(), failed: failed.len(), others })
        })
        .await?;
    counter!("datafly_redis_repairs_done_total").increment(u64::try_from(drained.done).unwrap_or_default());
    Ok(drained)
}
