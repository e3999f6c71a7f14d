//! The reaper: nothing stays for ever. One instance at a time removes, in small batches, what is of no use any more.

use std::time::{Duration, Instant};

use diesel::{QueryableByName, sql_types::Bool};
use diesel_async::{AsyncConnection, RunQueryDsl};
use event_log::PostgresLog;
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
        postgres::{erasure, proofs, vendor_ids},
    },
    vendor_ids::refresh,
};

/// Pause between looks that find nothing.
const PERIOD: Duration = Duration::from_secs(10);
/// Most rows of each table in a batch.
const MAX_BATCH_ROWS: i64 = 500;
/// Longest lead of another core's clock over this one's: what ends by its clock is followed by this one's as well.
const MAX_SKEW: time::Duration = time::Duration::seconds(5);
/// Most identities that are written anew in one change.
const MAX_REFRESHED: usize = 100;
/// Period of looks at the days of the event log.
const EVENTS_PERIOD: Duration = Duration::from_mins(1);
/// Age without being seen at which canonical identities go.
const IDLE: time::Duration = time::Duration::days(400);
/// Takes the advisory lock of the instance that reaps: `reap` in ASCII.
const LOCK: &str = "SELECT pg_try_advisory_xact_lock(1919246704) AS taken";

#[derive(QueryableByName)]
struct Lock {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

/// The work of one round.
struct Reaped {
    /// Number of what was removed.
    removed: usize,
    /// True where more identities wait to be written anew.
    more_ended: bool,
}

/// Reaps batch after batch until `stop`.
pub async fn reap_until(stores: Stores, log: PostgresLog, keep: Duration, stop: CancellationToken) {
    let mut events_at = Instant::now();
    loop {
        let mut is_more = false;
        if Instant::now() >= events_at {
            keep_events(&log, keep, clock::now()).await;
            events_at = Instant::now() + EVENTS_PERIOD;
        }
        match reap(&stores, clock::now()).await {
            Ok(Reaped { removed, more_ended }) => {
                if removed > 0 {
                    tracing::info!(removed, "removed what is of no use any more");
                }
                is_more = removed > 0 || more_ended;
            }
            Err(error) => tracing::debug!(%error, "not reaped"),
        }
        let pause = if is_more { Duration::ZERO } else { PERIOD };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Removes one batch of each kind.
async fn reap(stores: &Stores, now: OffsetDateTime) -> Result<Reaped> {
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
    let Some((aged, idle)) = reaped else { return Ok(Reaped { removed: 0, more_ended: false }) };
    let mut forgotten = 0;
    for group in idle.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((org, _)) = group.first() else { continue };
        let roots = group.iter().map(|(_, root)| *root).collect();
        forgotten += change::commit(stores, Forget { org: *org, roots, day }).await?.output;
    }
    let months = keep_months(stores, now).await.unwrap_or_else(|error| {
        serve::warn_on_change!(WARN, %error, "months of used proofs were not kept");
        0
    });
    counter!("datafly_reaped_total", "what" => "months").increment(months);
    counter!("datafly_reaped_total", "what" => "rows").increment(u64::try_from(aged).unwrap_or_default());
    counter!("datafly_reaped_total", "what" => "canonicals")
        .increment(u64::try_from(forgotten).unwrap_or_default());
    let more_ended = follow_ended(stores, now - MAX_SKEW).await.unwrap_or_else(|error| {
        serve::warn_on_change!(WARN, %error, "what has ended was not followed by what stands behind it");
        false
    });
    Ok(Reaped { removed: aged + forgotten, more_ended })
}

/// Makes room for the proofs of the months to come and drops the months that are over for 400 days, of which it returns
/// the number.
pub async fn keep_months(stores: &Stores, now: OffsetDateTime) -> Result<u64> {
    let mut connection = stores.connection().await?;
    let dropped = connection
        .transaction(async |connection| {
            let lock: Lock = diesel::sql_query(LOCK).get_result(connection).await?;
            if lock.taken { proofs::keep_months(connection, now.date()).await } else { Ok::<_, Error>(0) }
        })
        .await?;
    Ok(u64::try_from(dropped).unwrap_or_default())
}

/// Makes room for the events of days to come, and then drops days that ended `keep` ago, one after the other.
pub async fn keep_events(log: &PostgresLog, keep: Duration, now: OffsetDateTime) {
    let (today, keep) = (now.date(), time::Duration::try_from(keep).unwrap_or(time::Duration::DAY));
    if let Err(error) = log.make_room(today).await {
        serve::warn_on_change!(ERROR, %error, "there is no room for the events of days to come");
    }
    loop {
        match log.drop_day(today, keep).await {
            Ok(kept) => {
                counter!("datafly_reaped_total", "what" => "days")
                    .increment(u64::try_from(kept.dropped).unwrap_or_default());
                if kept.expired > 0 {
                    tracing::error!(
                        events = kept.expired,
                        "events are gone that a destination has not had in seven days"
                    );
                }
                if kept.dropped == 0 {
                    return;
                }
            }
            Err(error) => {
                serve::warn_on_change!(WARN, %error, "days of the event log are dropped later");
                return;
            }
        }
    }
}

/// Writes anew what Redis serves of a batch of identities some of whose vendor IDs have ended until `now` while
/// others live, and tells whether there are more. No reader of `identity:` misses those that live for longer than it
/// takes to come round. Another instance may do the same at once, which costs time alone.
async fn follow_ended(stores: &Stores, now: OffsetDateTime) -> Result<bool> {
    let ended = vendor_ids::ended(&mut *stores.connection().await?, now, MAX_BATCH_ROWS).await?;
    let Some(ended) = ended else { return Ok(false) };
    let identities: Vec<(Uuid, Uuid)> = ended.with_others.into_iter().collect();
    for group in identities.chunk_by(|(one, _), (other, _)| one == other) {
        let Some((org, _)) = group.first() else { continue };
        for part in group.chunks(MAX_REFRESHED) {
            let canonicals = part.iter().map(|(_, canonical)| *canonical).collect();
            refresh::try_refresh(stores, *org, canonicals, clock::now()).await?;
        }
    }
    // Only now: another instance that takes over begins again where this one has ended.
    vendor_ids::followed(&mut *stores.connection().await?, ended.until).await?;
    Ok(ended.is_full)
}
