//! A lock for transactions of one organisation that must not overlap.

use diesel::{sql_query, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Waits until no other transaction of this organisation is in what must not overlap: how many sources and
/// secrets there are, who refers to these, which fields providers fill, and beginning to seal anew. Held
/// until the end of the transaction.
pub async fn lock_org(connection: &mut AsyncPgConnection, org: Uuid) -> diesel::QueryResult<()> {
    let lock = sql_query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))");
    // The text is what all instances hash, older ones too: another one would be another lock.
    lock.bind::<Text, _>(format!("alone:{org}")).execute(connection).await.map(drop)
}
