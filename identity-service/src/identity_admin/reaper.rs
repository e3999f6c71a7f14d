//! The reaper: nothing stays for ever. One instance at a time removes, in small batches, what is of no use any more.

use std::time::Duration;

use diesel::{QueryableByName, sql_types::Bool};
use diesel_async::{AsyncConnection, RunQueryDsl};
use metrics::counter;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::erase::Forget;
use crate::{
    clock,
    error::{Error, Result},
    storage::{Stores, change, postgres::erasure},
};

/// Pause between looks that find nothing.
const PERIOD: Duration = Duration::from_secs(10);
/// Most rows of each table in a batch.
const MAX_BATCH_ROWS: i64 = 500;
/// Age without being seen at which canonical identities go.
const IDLE: time::Duration = time::Duration::days(400);
/// Takes the advisory lock of the instance that reaps: `reap` in ASCII.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock(1919246704) AS taken";

#[derive(QueryableByName)]
struct Lock {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

/// Reaps batch after batch until `stop`.
pub async fn reap_until(stores: Stores, stop: CancellationToken) {
    loop {
        match reap(&stores, clock::now()).await {
            // There is more.
            Ok(reaped) if reaped > 0 => {
                tracing::info!(reaped, "removed what is of no use any more");
                if stop.is_cancelled() {
                    return;
                }
                continue;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "not reaped"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// Removes one batch of each kind, and returns how much that was.
async fn reap(stores: &Stores, now: OffsetDateTime) -> Result<usize> {
    let day = (now - IDLE).date();
    let mut connection = stores.connection().await?;
    let (aged, idle): (usize, Vec<(Uuid, Uuid)>) = connection
        .transaction(async |connection| {
            let lock: Lock = diesel::sql_query(LOCK).get_result(connection).await?;
            if !lock.taken {
                return Ok::<_, Error>((0, Vec::new()));
            }
            let aged = erasure::remove_aged(connection, now, MAX_BATCH_ROWS).await?;
            Ok((aged, erasure::idle(connection, day, MAX_BATCH_ROWS).await?))
        })
        .await?;
    drop(connection);
    let mut forgotten = 0;
    for group in idle.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((org, _)) = group.first() else { continue };
        let roots = group.iter().map(|(_, root)| *root).collect();
        forgotten += change::commit(stores, Forget { org: *org, roots, day }).await?.output;
    }
    counter!("datafly_reaped_total", "what" => "rows").increment(u64::try_from(aged).unwrap_or_default());
    counter!("datafly_reaped_total", "what" => "canonicals")
        .increment(u64::try_from(forgotten).unwrap_or_default());
    Ok(aged + forgotten)
}
