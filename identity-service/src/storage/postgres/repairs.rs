//! `redis_repairs`: keys that Redis could not be told about.

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Double, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::redis_repairs;
use uuid::Uuid;

use super::prepared::Prepared;
use crate::{
    error::Result,
    storage::redis::keys::{Key, Shape},
};

/// Rows taken for repair, locked until the end of the transaction.
#[derive(Debug, Default)]
pub struct Taken {
    /// The rows.
    pub ids: Vec<i64>,
    /// Their keys.
    pub keys: Vec<(String, Shape)>,
    /// How long the oldest has waited.
    pub oldest_age_seconds: f64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    redis_key: String,
    #[diesel(sql_type = Double)]
    age: f64,
}

/// Leaves a repair for every key, in the caller's transaction.
pub async fn add(connection: &mut AsyncPgConnection, org: Uuid, keys: &[Key]) -> Result<()> {
    Prepared(
        diesel::sql_query("INSERT INTO redis_repairs (org_id, redis_key) SELECT $1, unnest($2)")
            .bind::<SqlUuid, _>(org)
            .bind::<Array<Text>, _>(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes up to `limit` rows, oldest first, leaving those that another instance has.
pub async fn take(connection: &mut AsyncPgConnection, limit: i64) -> Result<Taken> {
    let rows: Vec<Row> = Prepared(
        diesel::sql_query(
            "SELECT id, redis_key, EXTRACT(EPOCH FROM now() - created_at)::float8 AS age \
         FROM redis_repairs ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
        )
        .bind::<BigInt, _>(limit),
    )
    .load(connection)
    .await?;
    Ok(Taken {
        ids: rows.iter().map(|row| row.id).collect(),
        oldest_age_seconds: rows.iter().map(|row| row.age).fold(0.0, f64::max),
        keys: rows
            .into_iter()
            .map(|row| {
                let shape = shape_of(&row.redis_key);
                (row.redis_key, shape)
            })
            .collect(),
    })
}

/// Removes rows that were repaired.
pub async fn remove(connection: &mut AsyncPgConnection, ids: &[i64]) -> Result<()> {
    diesel::delete(redis_repairs::table.filter(redis_repairs::id.eq_any(ids))).execute(connection).await?;
    Ok(())
}

fn shape_of(key: &str) -> Shape {
    let is_hash = ["cvid:", "syncs:", "identity:"].iter().any(|prefix| key.starts_with(prefix));
    if is_hash { Shape::Hash } else { Shape::Text }
}
