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
    storage::{
        Stores, change,
        postgres::{erasure, vendor_ids},
    },
    vendor_ids::refresh,
};

/// Pause between looks that find nothing.
const PERIOD: Duration = Duration::from_secs(10);
/// Most rows of each table in a batch.
const MAX_BATCH_ROWS: i64 = 500;
/// Most identities that are written anew in one change.
const MAX_REFRESHED: usize = 100;
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
    let reaped: Option<(usize, Vec<(Uuid, Uuid)>)> = connection
        .transaction(async |connection| {
            let lock: Lock = diesel::sql_query(LOCK).get_result(connection).await?;
            if !lock.taken {
                return Ok::<_, Error>(None);
            }
            let aged = erasure::remove_aged(connection, now, MAX_BATCH_ROWS).await?;
            Ok(Some((aged, erasure::idle(connection, day, MAX_BATCH_ROWS).await?)))
        })
        .await?;
    drop(connection);
    let Some((aged, idle)) = reaped else { return Ok(0) };
    let mut forgotten = 0;
    for group in idle.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((org, _)) = group.first() else { continue };
        let roots = group.iter().map(|(_, root)| *root).collect();
        forgotten += change::commit(stores, Forget { org: *org, roots, day }).await?.output;
    }
    let followed = follow_ended(stores, now).await?;
    counter!("datafly_reaped_total", "what" => "rows").increment(u64::try_from(aged).unwrap_or_default());
    counter!("datafly_reaped_total", "what" => "canonicals")
        .increment(u64::try_from(forgotten).unwrap_or_default());
    Ok(aged + forgotten + followed)
}

/// Writes anew what Redis serves of one batch of identities some of whose vendor IDs have ended while others live, and
/// returns how many these are, at least 1: readers of `identity:` then miss none of those for longer than this takes to
/// come round.
async fn follow_ended(stores: &Stores, now: OffsetDateTime) -> Result<usize> {
    let ended = vendor_ids::ended(&mut *stores.connection().await?, now, MAX_BATCH_ROWS).await?;
    let Some((identities, until)) = ended else { return Ok(0) };
    let identities: Vec<(Uuid, Uuid)> = identities.into_iter().collect();
    for group in identities.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((org, _)) = group.first() else { continue };
        for part in group.chunks(MAX_REFRESHED) {
            let canonicals = part.iter().map(|(_, canonical)| *canonical).collect();
            refresh::try_refresh(stores, *org, canonicals, now).await?;
        }
    }
    // Only now: another instance that takes over begins again where this one has ended.
    vendor_ids::followed(&mut *stores.connection().await?, until).await?;
    Ok(identities.len().max(1))
}
