//! What waits for destinations.

use diesel::{
    QueryableByName,
    prelude::*,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::{prepared::Prepared, schema::deliveries};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Result;

#[derive(QueryableByName)]
struct SourceRow {
    #[diesel(sql_type = SqlUuid)]
    source_id: Uuid,
}

/// Finds the sources of which more than `limit` bytes wait for a destination.
pub async fn full_sources(connection: &mut AsyncPgConnection, limit: i64) -> Result<Vec<Uuid>> {
    let full = diesel::sql_query(
        "SELECT head.source_id FROM event_heads head \
         JOIN delivery_cursors own ON own.source_id = head.source_id \
         JOIN destinations ON id = destination_id AND enabled \
         GROUP BY head.source_id, head.bytes HAVING head.bytes - min(own.bytes) > $1",
    )
    .bind::<BigInt, _>(limit);
    let rows: Vec<SourceRow> = Prepared(full).load(connection).await?;
    Ok(rows.into_iter().map(|row| row.source_id).collect())
}

/// An event that a destination has not taken.
#[derive(Debug, Queryable)]
pub struct DeliveryRow {
    /// The row.
    pub id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// The destination.
    pub destination_id: Uuid,
    /// The time of its arrival.
    pub received_at: OffsetDateTime,
    /// The envelope, sealed.
    pub sealed: Vec<u8>,
    /// The time at which it was given up.
    pub dead_at: Option<OffsetDateTime>,
    /// The reason for which it was not taken.
    pub reason: Option<String>,
}

/// Reads what waits of people's events, the newest first.
pub async fn of_people(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
    limit: i64,
) -> Result<Vec<DeliveryRow>> {
    let rows = deliveries::table
        .filter(deliveries::org_id.eq(org).and(deliveries::canonical_id.eq_any(canonicals)))
        .select((
            deliveries::id,
            deliveries::event_id,
            deliveries::destination_id,
            deliveries::received_at,
            deliveries::sealed,
            deliveries::dead_at,
            deliveries::reason,
        ))
        .order((deliveries::received_at.desc(), deliveries::id.desc()))
        .limit(limit);
    Ok(rows.load(connection).await?)
}
