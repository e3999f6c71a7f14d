//! Events that wait in a table: each lane of them in order, its first with a time of its next try.

use std::sync::Arc;

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Binary, Bool, Double, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::{
    prepared::Prepared,
    sealed::{self, CountedError, SealKeys, columns},
};
use prost::Message;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Storage};
use crate::{lane::Lane, prepare::OpenEvent};

/// An event that is to wait in a table.
#[derive(Debug)]
pub struct NewDelivery {
    /// The event.
    pub event: Arc<OpenEvent>,
    /// Its place in the log.
    pub seq: i64,
    /// Its lane.
    pub lane: Lane,
    /// Failures so far.
    pub attempts: i16,
    /// Seconds until the next try; none where it waits behind another.
    pub next_in: Option<f64>,
    /// True where it is given up.
    pub is_dead: bool,
    /// The reason.
    pub reason: Option<&'static str>,
    /// HTTP status of the last failure.
    pub status: Option<i16>,
}

/// An event that waits in a table.
#[derive(Debug, QueryableByName)]
pub struct DeliveryRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub org_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub canonical_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    #[diesel(sql_type = Binary)]
    pub lane: Vec<u8>,
    #[diesel(sql_type = Timestamptz)]
    pub received_at: OffsetDateTime,
    #[diesel(sql_type = Binary)]
    pub sealed: Vec<u8>,
    #[diesel(sql_type = SmallInt)]
    pub attempts: i16,
}

#[derive(QueryableByName)]
struct LaneRow {
    #[diesel(sql_type = Binary)]
    lane: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    waiting: i64,
}

impl Storage {
    /// The lanes of which something waits, with how many.
    pub async fn parked_lanes(&self, destination: Uuid) -> Result<Vec<(Lane, i64)>> {
        let lanes = sql_query(
            "SELECT lane, count(*) AS waiting FROM deliveries WHERE destination_id = $1 AND dead_at IS NULL GROUP BY lane",
        )
        .bind::<SqlUuid, _>(destination);
        let rows: Vec<LaneRow> = Prepared(lanes).load(&mut *self.pool.get().await?).await?;
        Ok(rows.into_iter().filter_map(|row| Some((Lane::try_from(row.lane).ok()?, row.waiting))).collect())
    }

    /// Has the first of each lane tried that nobody has woken: what it waited for is gone.
    pub async fn wake_lanes(&self, destination: Uuid) -> Result<()> {
        let wake = sql_query(
            "UPDATE deliveries SET next_at = now() WHERE next_at IS NULL AND dead_at IS NULL AND id IN ( \
                 SELECT DISTINCT ON (lane) id FROM deliveries WHERE destination_id = $1 AND dead_at IS NULL \
                 ORDER BY lane, seq)",
        )
        .bind::<SqlUuid, _>(destination);
        Prepared(wake).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }

    /// Finds what waits in a table and is due, the longest due first.
    pub async fn due(&self, destination: Uuid, limit: i64) -> Result<Vec<DeliveryRow>> {
        let due = sql_query(
            "SELECT id, org_id, canonical_id, event_id, lane, received_at, sealed, attempts FROM deliveries \
             WHERE destination_id = $1 AND dead_at IS NULL AND next_at <= now() ORDER BY next_at, seq LIMIT $2",
        )
        .bind::<SqlUuid, _>(destination)
        .bind::<BigInt, _>(limit);
        Ok(Prepared(due).load(&mut *self.pool.get().await?).await?)
    }

    /// Removes what needs to wait no longer, and has the next of its lane tried.
    pub async fn settle(&self, destination: Uuid, row: Uuid, lane: Lane) -> Result<()> {
        let mut connection = self.pool.get().await?;
        connection
            .transaction(async |connection| {
                let gone = sql_query("DELETE FROM deliveries WHERE id = $1 AND destination_id = $2")
                    .bind::<SqlUuid, _>(row)
                    .bind::<SqlUuid, _>(destination);
                Prepared(gone).execute(connection).await?;
                wake_next(connection, destination, lane).await
            })
            .await
    }

    /// Writes down that something failed once more: the time of its next try, or that it is given up.
    pub async fn fail(
        &self,
        destination: Uuid,
        row: Uuid,
        lane: Lane,
        next_in: Option<f64>,
        counts: bool,
        (reason, status): (&str, Option<i16>),
    ) -> Result<()> {
        let mut connection = self.pool.get().await?;
        connection
            .transaction(async |connection| {
                let failed = sql_query(
                    "UPDATE deliveries SET attempts = attempts + $3, next_at = now() + make_interval(secs => $4), \
                         dead_at = CASE WHEN $4 IS NULL THEN now() END, reason = $5, last_status = $6 \
                     WHERE id = $1 AND destination_id = $2",
                )
                .bind::<SqlUuid, _>(row)
                .bind::<SqlUuid, _>(destination)
                .bind::<SmallInt, _>(i16::from(counts))
                .bind::<Nullable<Double>, _>(next_in)
                .bind::<Text, _>(reason)
                .bind::<Nullable<SmallInt>, _>(status);
                Prepared(failed).execute(connection).await?;
                if next_in.is_none() { wake_next(connection, destination, lane).await } else { Ok(()) }
            })
            .await
    }
}

/// Has the next event of a lane tried: it waited for one before it.
async fn wake_next(connection: &mut AsyncPgConnection, destination: Uuid, lane: Lane) -> Result<()> {
    let wake = sql_query(
        "UPDATE deliveries SET next_at = now() WHERE id = ( \
             SELECT id FROM deliveries WHERE destination_id = $1 AND lane = $2 AND dead_at IS NULL ORDER BY seq LIMIT 1) \
             AND next_at IS NULL",
    )
    .bind::<SqlUuid, _>(destination)
    .bind::<Binary, _>(lane.as_slice());
    Prepared(wake).execute(connection).await?;
    Ok(())
}

pub(super) async fn add(
    connection: &mut AsyncPgConnection,
    keys: &SealKeys,
    destination: Uuid,
    waiting: &[NewDelivery],
) -> Result<()> {
    if waiting.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(waiting.len()).unwrap_or(i64::MAX);
    sealed::count(connection, keys.current().id(), count).await?;
    for one in waiting {
        let id = Uuid::now_v7();
        let place = columns::DELIVERIES.place(one.event.org, id);
        let sealed = keys.seal(place, &one.event.envelope.encode_to_vec()).map_err(CountedError::from)?;
        // Of who was erased meanwhile nothing is kept.
        let insert = sql_query(
            "INSERT INTO deliveries (id, destination_id, org_id, canonical_id, event_id, seq, lane, received_at, sealed, \
                 attempts, next_at, dead_at, reason, last_status) \
             SELECT $1, $2, $3, id, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11), \
                 CASE WHEN $12 THEN now() END, $13, $14 \
             FROM canonicals WHERE org_id = $3 AND id = $4 FOR KEY SHARE \
             ON CONFLICT (destination_id, event_id) DO NOTHING",
        )
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(destination)
        .bind::<SqlUuid, _>(one.event.org)
        .bind::<SqlUuid, _>(one.event.canonical)
        .bind::<SqlUuid, _>(one.event.id)
        .bind::<BigInt, _>(one.seq)
        .bind::<Binary, _>(one.lane.as_slice())
        .bind::<Timestamptz, _>(one.event.received_at)
        .bind::<Binary, _>(sealed)
        .bind::<SmallInt, _>(one.attempts)
        .bind::<Nullable<Double>, _>(one.next_in)
        .bind::<Bool, _>(one.is_dead)
        .bind::<Nullable<Text>, _>(one.reason)
        .bind::<Nullable<SmallInt>, _>(one.status);
        Prepared(insert).execute(connection).await?;
        if one.next_in.is_none() && !one.is_dead {
            // Where what it was to wait for is gone by now, it is the next.
            wake_next(connection, destination, one.lane).await?;
        }
    }
    Ok(())
}
