//! Appending, in one statement for all requests that wait.

use diesel::{
    QueryableByName, sql_query,
    sql_types::{Array, BigInt, Binary, Bool, Date as SqlDate, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::prepared::Prepared;
use uuid::Uuid;

use super::{LogError, PostgresLog};
use crate::NewEvent;

/// Adds events, in order, and tells how many were new. The lock (`elog` in ASCII) is taken before a number is: it is in
/// what the rows are made of. In a day's first hour an event of the day before is looked for as well.
const APPEND: &str = "WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock(1701605223)), \
    new AS ( \
        SELECT new.* FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY \
            AS new (day, org_id, source_id, canonical_id, event_id, received_at, body, at), held \
        WHERE NOT $8 OR NOT EXISTS (SELECT FROM events old WHERE old.day = new.day - 1 \
            AND old.source_id = new.source_id AND old.event_id = new.event_id)), \
    added AS ( \
        INSERT INTO events (seq, day, org_id, source_id, canonical_id, event_id, received_at, body) \
        SELECT nextval('events_seq'), day, org_id, source_id, canonical_id, event_id, received_at, body FROM new \
        ORDER BY at \
        ON CONFLICT (day, source_id, event_id) DO NOTHING \
        RETURNING source_id, org_id, seq, octet_length(body) AS bytes), \
    heads AS ( \
        INSERT INTO event_heads AS head (source_id, org_id, seq, events, bytes) \
        SELECT source_id, (array_agg(org_id))[1], max(seq), count(*), sum(bytes) FROM added GROUP BY source_id \
        ON CONFLICT (source_id) DO UPDATE SET seq = excluded.seq, events = head.events + excluded.events, \
            bytes = head.bytes + excluded.bytes) \
    SELECT count(*) AS added FROM added";

#[derive(QueryableByName)]
struct Added {
    #[diesel(sql_type = BigInt)]
    added: i64,
}

impl PostgresLog {
    /// Adds events, all of them or none, and tells how many were new: Ok means that they are durable. May be repeated, as
    /// an event that is there already is left as it is.
    pub async fn append(&self, events: &[NewEvent]) -> Result<usize, LogError> {
        fn column<T>(events: &[NewEvent], get: impl Fn(&NewEvent) -> T) -> Vec<T> {
            events.iter().map(get).collect()
        }
        let is_first_hour = events.iter().any(|event| event.received_at.hour() == 0);
        let append = sql_query(APPEND)
            .bind::<Array<SqlDate>, _>(column(events, |event| event.place.day))
            .bind::<Array<SqlUuid>, _>(column(events, |event| event.place.org))
            .bind::<Array<SqlUuid>, _>(column(events, |event| event.place.source))
            .bind::<Array<SqlUuid>, _>(column(events, |event| event.canonical))
            .bind::<Array<SqlUuid>, _>(column(events, |event| event.place.event))
            .bind::<Array<Timestamptz>, _>(column(events, |event| event.received_at))
            .bind::<Array<Binary>, _>(events.iter().map(|event| event.body.as_slice()).collect::<Vec<_>>())
            .bind::<Bool, _>(is_first_hour);
        let added: Added = Prepared(append).get_result(&mut *self.pool.get().await?).await?;
        Ok(usize::try_from(added.added).unwrap_or_default())
    }
}

/// Removes the events of people for good, in the transaction in which they are erased.
pub async fn forget(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> diesel::QueryResult<usize> {
    let forget = sql_query("DELETE FROM events WHERE org_id = $1 AND canonical_id = ANY ($2)")
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(canonicals);
    Prepared(forget).execute(connection).await
}
