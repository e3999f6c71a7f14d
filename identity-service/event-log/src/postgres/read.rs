//! Reading from a position on.

use diesel::{
    OptionalExtension, QueryableByName, sql_query,
    sql_types::{Array, BigInt, Binary, Date as SqlDate, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::prepared::Prepared;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::{LogError, PostgresLog};
use crate::{Place, Position, StoredEvent};

/// The last event of a source, and how many there were of it in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The source.
    pub source: Uuid,
    /// The position of the last event.
    pub position: Position,
    /// Number of its events so far.
    pub events: i64,
    /// Their bytes, as they are kept.
    pub bytes: i64,
}

#[derive(QueryableByName)]
struct HeadRow {
    #[diesel(sql_type = SqlUuid)]
    source_id: Uuid,
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = BigInt)]
    events: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

#[derive(QueryableByName)]
struct EventRow {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = SqlDate)]
    day: Date,
    #[diesel(sql_type = SqlUuid)]
    org_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    source_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    event_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    received_at: OffsetDateTime,
    #[diesel(sql_type = Binary)]
    body: Vec<u8>,
}

impl From<EventRow> for StoredEvent {
    fn from(row: EventRow) -> Self {
        Self {
            position: Position::from_number(row.seq),
            place: Place { org: row.org_id, source: row.source_id, event: row.event_id, day: row.day },
            canonical: row.canonical_id,
            received_at: row.received_at,
            body: row.body,
        }
    }
}

#[derive(QueryableByName)]
struct Arrival {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Timestamptz)]
    received_at: OffsetDateTime,
}

impl PostgresLog {
    /// Reads the events of a source that follow a position, in order: at most `limit`, and at most `bytes` of them,
    /// though one at least.
    pub async fn read(
        &self,
        source: Uuid,
        after: Position,
        limit: i64,
        bytes: i64,
    ) -> Result<Vec<StoredEvent>, LogError> {
        let read = sql_query(
            "SELECT seq, day, org_id, source_id, canonical_id, event_id, received_at, body FROM ( \
                 SELECT *, sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) AS before FROM ( \
                     SELECT * FROM events WHERE source_id = $1 AND seq > $2 ORDER BY seq LIMIT $3) AS read) AS page \
             WHERE before < $4 ORDER BY seq",
        )
        .bind::<SqlUuid, _>(source)
        .bind::<BigInt, _>(after.number())
        .bind::<BigInt, _>(limit)
        .bind::<BigInt, _>(bytes);
        let rows: Vec<EventRow> = Prepared(read).load(&mut *self.pool.get().await?).await?;
        Ok(rows.into_iter().map(StoredEvent::from).collect())
    }

    /// Tells how far sources have come; those that never had an event are not among them.
    pub async fn heads(&self, sources: &[Uuid]) -> Result<Vec<Head>, LogError> {
        let heads =
            sql_query("SELECT source_id, seq, events, bytes FROM event_heads WHERE source_id = ANY ($1)")
                .bind::<Array<SqlUuid>, _>(sources);
        let rows: Vec<HeadRow> = Prepared(heads).load(&mut *self.pool.get().await?).await?;
        let head = |row: HeadRow| Head {
            source: row.source_id,
            position: Position::from_number(row.seq),
            events: row.events,
            bytes: row.bytes,
        };
        Ok(rows.into_iter().map(head).collect())
    }

    /// Finds the position before the first event that arrived at `time` or later, by halves: numbers and times grow
    /// together but for clocks that differ.
    pub async fn position_at(&self, source: Uuid, time: OffsetDateTime) -> Result<Position, LogError> {
        let mut connection = self.pool.get().await?;
        let Some(first) = first_after(&mut connection, source, 0).await? else { return Ok(Position(0)) };
        if first.received_at >= time {
            return Ok(Position(first.seq - 1));
        }
        let last = sql_query("SELECT seq, now() AS received_at FROM event_heads WHERE source_id = $1")
            .bind::<SqlUuid, _>(source);
        let last: Option<Arrival> = Prepared(last).get_result(&mut *connection).await.optional()?;
        // What arrived before `time` is up to `low`; what arrived later begins behind `high`.
        let (mut low, mut high) = (first.seq, last.map_or(first.seq, |last| last.seq));
        while low < high {
            let middle = low + (high - low) / 2;
            match first_after(&mut connection, source, middle).await? {
                Some(next) if next.received_at < time => low = next.seq,
                _ => high = middle,
            }
        }
        Ok(Position(low))
    }
}

/// Reads the last events of people, the newest first.
pub async fn of_people(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
    limit: i64,
) -> diesel::QueryResult<Vec<StoredEvent>> {
    let theirs = sql_query(
        "SELECT seq, day, org_id, source_id, canonical_id, event_id, received_at, body FROM events \
         WHERE org_id = $1 AND canonical_id = ANY ($2) ORDER BY seq DESC LIMIT $3",
    )
    .bind::<SqlUuid, _>(org)
    .bind::<Array<SqlUuid>, _>(canonicals)
    .bind::<BigInt, _>(limit);
    let rows: Vec<EventRow> = Prepared(theirs).load(connection).await?;
    Ok(rows.into_iter().map(StoredEvent::from).collect())
}

async fn first_after(
    connection: &mut AsyncPgConnection,
    source: Uuid,
    after: i64,
) -> Result<Option<Arrival>, LogError> {
    let first = sql_query(
        "SELECT seq, received_at FROM events WHERE source_id = $1 AND seq > $2 ORDER BY seq LIMIT 1",
    )
    .bind::<SqlUuid, _>(source)
    .bind::<BigInt, _>(after);
    Ok(Prepared(first).get_result(connection).await.optional()?)
}
