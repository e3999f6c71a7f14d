//! What waits for destinations.

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::prepared::Prepared;
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
