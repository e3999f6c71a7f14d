//! Statements of the processor: destinations, cursors and what is parked. Each changes nothing that another owner has
//! taken over.

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{
        Array, BigInt, Binary, Bool, Float, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
    },
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::{
    pool::{PgPool, PgPoolError},
    prepared::Prepared,
    sealed::{self, CountedError, SealKeys, columns},
};
use prost::Message;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{lane::Lane, prepare::OpenEvent};

/// The reason why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There was no connection.
    #[error("no connection: {0}")]
    Pool(#[from] PgPoolError),
    /// A statement failed.
    #[error("{0}")]
    Postgres(#[from] diesel::result::Error),
    /// Nothing more can be sealed.
    #[error("{0}")]
    Sealed(#[from] CountedError),
}

type Result<T, E = StorageError> = std::result::Result<T, E>;

/// A destination as it is stored, with the tenant that it may share.
#[derive(Debug, QueryableByName)]
pub struct DestinationRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub org_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    pub source_id: Uuid,
    #[diesel(sql_type = Text)]
    pub vendor: String,
    #[diesel(sql_type = Jsonb)]
    pub config: Value,
    #[diesel(sql_type = Nullable<Binary>)]
    pub sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub provider_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub provider_config: Option<Value>,
    #[diesel(sql_type = Nullable<Binary>)]
    pub provider_sealed: Option<Vec<u8>>,
    #[diesel(sql_type = Bool)]
    pub has_profiles: bool,
    #[diesel(sql_type = Text)]
    pub fingerprint: String,
}

/// A cursor that this process has taken.
#[derive(Debug, Clone, QueryableByName)]
pub struct Taken {
    #[diesel(sql_type = SqlUuid)]
    pub destination_id: Uuid,
    #[diesel(sql_type = BigInt)]
    pub epoch: i64,
    #[diesel(sql_type = BigInt)]
    pub position: i64,
}

/// What the owner of a cursor is told when it is moved.
#[derive(Debug, QueryableByName)]
pub struct Held {
    #[diesel(sql_type = Bool)]
    pub is_paused: bool,
    #[diesel(sql_type = Text)]
    pub fingerprint: String,
    #[diesel(sql_type = Bool)]
    pub is_enabled: bool,
    #[diesel(sql_type = Bool)]
    pub is_watched: bool,
}

/// What is written down of a destination.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The new position; none where it is the same.
    pub position: Option<i64>,
    /// Events that came to be behind it.
    pub events: i64,
    /// Bytes of those.
    pub bytes: i64,
    /// The reason for which it rests; none where it does not.
    pub reason: Option<&'static str>,
    /// The time of the next try, in seconds from now.
    pub probe_in: Option<f64>,
    /// Requests a second.
    pub rate: f32,
    /// True where something was delivered since the last report.
    pub succeeded: bool,
    /// True where the destination said that it drops what it is sent.
    pub dropping: bool,
    /// The last failure since the last report.
    pub error: Option<Value>,
    /// True where the log has nothing behind the position: what was counted is then made exact.
    pub is_at_head: bool,
}

/// An event that is to wait in a table.
#[derive(Debug)]
pub struct NewDelivery {
    /// The event.
    pub event: std::sync::Arc<OpenEvent>,
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

/// A replay that is to be done.
#[derive(Debug, Clone, QueryableByName)]
pub struct ReplayRow {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    pub from_at: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    pub to_at: OffsetDateTime,
    #[diesel(sql_type = Array<Text>)]
    pub events: Vec<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub position: Option<i64>,
}

#[derive(QueryableByName)]
struct LaneRow {
    #[diesel(sql_type = Binary)]
    lane: Vec<u8>,
    #[diesel(sql_type = BigInt)]
    waiting: i64,
}

/// The database, as one process uses it.
#[derive(Clone)]
pub struct Storage {
    pool: PgPool,
    /// This process.
    pub owner: Uuid,
}

/// What a destination is set up with, in one text: another text is another try.
const FINGERPRINT: &str = "concat_ws(' ', d.version, p.version, p.sealed_at, d.sealed_at)";

impl Storage {
    /// The database of that pool, for a new process.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, owner: Uuid::new_v4() }
    }

    /// Reads a destination; none where it is gone or off.
    pub async fn destination(&self, id: Uuid) -> Result<Option<DestinationRow>> {
        let sql = format!(
            "SELECT d.id, d.org_id, d.source_id, d.vendor, d.config, d.sealed, p.id AS provider_id, \
                 p.config AS provider_config, p.sealed AS provider_sealed, \
                 COALESCE(p.enabled AND p.credentials @> ARRAY['profile_api_key'], false) AS has_profiles, \
                 {FINGERPRINT} AS fingerprint \
             FROM destinations d LEFT JOIN profile_providers p ON p.source_id = d.source_id AND p.org_id = d.org_id \
                 AND p.provider = 'amperity' \
             WHERE d.id = $1 AND d.enabled"
        );
        let query = Prepared(sql_query(sql).bind::<SqlUuid, _>(id));
        Ok(query.get_result(&mut *self.pool.get().await?).await.optional()?)
    }

    /// Takes destinations that nobody has, so that each live process has its share, and tells which.
    pub async fn take(&self) -> Result<Vec<Taken>> {
        let take = sql_query(
            "WITH live AS ( \
                 SELECT count(*) AS all, count(*) FILTER (WHERE c.owner = $1 AND c.lease_until > now()) AS own, \
                     count(DISTINCT c.owner) FILTER (WHERE c.lease_until > now() AND c.owner <> $1) + 1 AS processes \
                 FROM delivery_cursors c JOIN destinations d ON d.id = c.destination_id AND d.enabled), \
             free AS ( \
                 SELECT c.destination_id FROM delivery_cursors c \
                 JOIN destinations d ON d.id = c.destination_id AND d.enabled, live \
                 WHERE c.lease_until IS NULL OR c.lease_until < now() \
                 ORDER BY c.lease_until NULLS FIRST, c.destination_id \
                 LIMIT GREATEST((SELECT ceil(live.all::numeric / processes)::bigint - own FROM live), 0) \
                 FOR NO KEY UPDATE OF c SKIP LOCKED) \
             UPDATE delivery_cursors c SET owner = $1, epoch = epoch + 1, lease_until = now() + interval '15 seconds' \
             FROM free WHERE c.destination_id = free.destination_id \
             RETURNING c.destination_id, c.epoch, c.position",
        )
        .bind::<SqlUuid, _>(self.owner);
        Ok(Prepared(take).load(&mut *self.pool.get().await?).await?)
    }

    /// The number of destinations that are too many of this process's, as others have come.
    pub async fn surplus(&self) -> Result<i64> {
        #[derive(QueryableByName)]
        struct Surplus {
            #[diesel(sql_type = BigInt)]
            surplus: i64,
        }
        let surplus = sql_query(
            "SELECT count(*) FILTER (WHERE c.owner = $1) - ceil(count(*)::numeric / GREATEST(1, count(DISTINCT c.owner) \
                 FILTER (WHERE c.lease_until > now())))::bigint AS surplus \
             FROM delivery_cursors c JOIN destinations d ON d.id = c.destination_id AND d.enabled \
             WHERE c.lease_until > now()",
        )
        .bind::<SqlUuid, _>(self.owner);
        let surplus: Surplus = Prepared(surplus).get_result(&mut *self.pool.get().await?).await?;
        Ok(surplus.surplus)
    }

    /// Gives a destination back to whoever comes first.
    pub async fn release(&self, taken: &Taken) -> Result<()> {
        let release = sql_query(
            "UPDATE delivery_cursors SET owner = NULL, lease_until = NULL \
             WHERE destination_id = $1 AND owner = $2 AND epoch = $3",
        )
        .bind::<SqlUuid, _>(taken.destination_id)
        .bind::<SqlUuid, _>(self.owner)
        .bind::<BigInt, _>(taken.epoch);
        Prepared(release).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }

    /// Writes down how far a destination is and what is to wait, all in one transaction, and holds it for longer; none
    /// where it is another's by now, and nothing was written.
    pub async fn report(
        &self,
        keys: &SealKeys,
        taken: &Taken,
        report: &Report,
        waiting: &[NewDelivery],
    ) -> Result<Option<Held>> {
        let mut connection = self.pool.get().await?;
        connection
            .transaction(async |connection| {
                let Some(held) = self.move_cursor(connection, taken, report).await? else { return Ok(None) };
                add(connection, keys, taken.destination_id, waiting).await?;
                Ok(Some(held))
            })
            .await
    }

    async fn move_cursor(
        &self,
        connection: &mut AsyncPgConnection,
        taken: &Taken,
        report: &Report,
    ) -> Result<Option<Held>> {
        let sql = format!(
            "UPDATE delivery_cursors c SET position = GREATEST(c.position, COALESCE($4, c.position)), \
                 events = CASE WHEN $13 THEN COALESCE(h.events, c.events + $5) ELSE c.events + $5 END, \
                 bytes = CASE WHEN $13 THEN COALESCE(h.bytes, c.bytes + $6) ELSE c.bytes + $6 END, \
                 lease_until = now() + interval '15 seconds', reason = $7, \
                 until = now() + make_interval(secs => $8), rate = $9, \
                 last_success_at = CASE WHEN $10 THEN now() ELSE c.last_success_at END, \
                 dropping_at = CASE WHEN $11 THEN now() WHEN $10 THEN NULL ELSE c.dropping_at END, \
                 last_error = COALESCE($12, c.last_error) \
             FROM destinations d LEFT JOIN profile_providers p ON p.source_id = d.source_id AND p.org_id = d.org_id \
                 AND p.provider = 'amperity' LEFT JOIN event_heads h ON h.source_id = d.source_id \
                     AND h.seq <= COALESCE($4, 0) \
             WHERE d.id = c.destination_id AND c.destination_id = $1 AND c.owner = $2 AND c.epoch = $3 \
             RETURNING c.paused_at IS NOT NULL AS is_paused, d.enabled AS is_enabled, {FINGERPRINT} AS fingerprint, \
                 EXISTS (SELECT FROM live_watches w WHERE w.source_id = d.source_id AND w.until > now()) AS is_watched"
        );
        let update = sql_query(sql)
            .bind::<SqlUuid, _>(taken.destination_id)
            .bind::<SqlUuid, _>(self.owner)
            .bind::<BigInt, _>(taken.epoch)
            .bind::<Nullable<BigInt>, _>(report.position)
            .bind::<BigInt, _>(report.events)
            .bind::<BigInt, _>(report.bytes)
            .bind::<Nullable<Text>, _>(report.reason)
            .bind::<Nullable<diesel::sql_types::Double>, _>(report.probe_in)
            .bind::<Float, _>(report.rate)
            .bind::<Bool, _>(report.succeeded)
            .bind::<Bool, _>(report.dropping)
            .bind::<Nullable<Jsonb>, _>(&report.error)
            .bind::<Bool, _>(report.is_at_head);
        Ok(Prepared(update).get_result(connection).await.optional()?)
    }

    /// The lanes of which something waits, with how many.
    pub async fn parked_lanes(&self, destination: Uuid) -> Result<Vec<(Lane, i64)>> {
        let lanes = sql_query(
            "SELECT lane, count(*) AS waiting FROM deliveries WHERE destination_id = $1 AND dead_at IS NULL GROUP BY lane",
        )
        .bind::<SqlUuid, _>(destination);
        let rows: Vec<LaneRow> = Prepared(lanes).load(&mut *self.pool.get().await?).await?;
        Ok(rows.into_iter().filter_map(|row| Some((Lane::try_from(row.lane).ok()?, row.waiting))).collect())
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
                .bind::<Nullable<diesel::sql_types::Double>, _>(next_in)
                .bind::<Text, _>(reason)
                .bind::<Nullable<SmallInt>, _>(status);
                Prepared(failed).execute(connection).await?;
                if next_in.is_none() { wake_next(connection, destination, lane).await } else { Ok(()) }
            })
            .await
    }

    /// The oldest replay of a destination that is to be done.
    pub async fn replay(&self, destination: Uuid) -> Result<Option<ReplayRow>> {
        let replay = sql_query(
            "SELECT id, from_at, to_at, events, position FROM replays WHERE destination_id = $1 AND state = 'running' \
             ORDER BY id LIMIT 1",
        )
        .bind::<SqlUuid, _>(destination);
        Ok(Prepared(replay).get_result(&mut *self.pool.get().await?).await.optional()?)
    }

    /// Writes down how far a replay is.
    pub async fn advance_replay(
        &self,
        replay: Uuid,
        position: i64,
        (sent, failed): (i64, i64),
        is_finished: bool,
    ) -> Result<()> {
        let advance = sql_query(
            "UPDATE replays SET position = $2, sent = sent + $3, failed = failed + $4, \
                 state = CASE WHEN $5 AND state = 'running' THEN 'finished' ELSE state END, \
                 finished_at = CASE WHEN $5 THEN now() END \
             WHERE id = $1",
        )
        .bind::<SqlUuid, _>(replay)
        .bind::<BigInt, _>(position)
        .bind::<BigInt, _>(sent)
        .bind::<BigInt, _>(failed)
        .bind::<Bool, _>(is_finished);
        Prepared(advance).execute(&mut *self.pool.get().await?).await?;
        Ok(())
    }

    /// Begins a replay, for an operator; none where there is no such destination.
    pub async fn begin_replay(
        &self,
        destination: Uuid,
        (from, to): (OffsetDateTime, OffsetDateTime),
    ) -> Result<Option<Uuid>> {
        #[derive(QueryableByName)]
        struct Begun {
            #[diesel(sql_type = SqlUuid)]
            id: Uuid,
        }
        let begin = sql_query(
            "INSERT INTO replays (id, org_id, destination_id, from_at, to_at, started_by) \
             SELECT $2, org_id, id, $3, $4, 'operator' FROM destinations WHERE id = $1 RETURNING id",
        )
        .bind::<SqlUuid, _>(destination)
        .bind::<SqlUuid, _>(Uuid::now_v7())
        .bind::<Timestamptz, _>(from)
        .bind::<Timestamptz, _>(to);
        let begun: Option<Begun> =
            Prepared(begin).get_result(&mut *self.pool.get().await?).await.optional()?;
        Ok(begun.map(|begun| begun.id))
    }

    /// Adds what whoever watches a source is shown, and keeps the last of it.
    pub async fn add_live(&self, event: &OpenEvent, body: Vec<u8>) -> Result<()> {
        let add = sql_query(
            "WITH added AS ( \
                 INSERT INTO live_events (source_id, org_id, canonical_id, event_id, at, body) \
                 VALUES ($1, $2, $3, $4, now(), $5) RETURNING seq) \
             DELETE FROM live_events WHERE source_id = $1 AND seq <= (SELECT seq FROM live_events WHERE source_id = $1 \
                 ORDER BY seq DESC OFFSET 199 LIMIT 1)",
        )
        .bind::<SqlUuid, _>(event.source)
        .bind::<SqlUuid, _>(event.org)
        .bind::<SqlUuid, _>(event.canonical)
        .bind::<SqlUuid, _>(event.id)
        .bind::<Binary, _>(body);
        Prepared(add).execute(&mut *self.pool.get().await?).await?;
        Ok(())
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

async fn add(
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
        let insert = sql_query(
            "INSERT INTO deliveries (id, destination_id, org_id, canonical_id, event_id, seq, lane, received_at, sealed, \
                 attempts, next_at, dead_at, reason, last_status) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11), \
                 CASE WHEN $12 THEN now() END, $13, $14) \
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
        .bind::<Nullable<diesel::sql_types::Double>, _>(one.next_in)
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
