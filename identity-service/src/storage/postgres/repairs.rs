//! `redis_repairs`: keys that Redis could not be told about.

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Double, Integer, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::redis_repairs;
use uuid::Uuid;

use crate::{
    error::Result,
    storage::redis::{
        keys::Key,
        protocol::{Nonce, Stale},
    },
};
use migrations::prepared::Prepared;

/// Failures by its own fault after which a repair is parked.
const TRIES: i32 = 5;

/// Rows taken for repair, locked until the end of the transaction.
#[derive(Debug, Default)]
pub struct Taken {
    /// IDs of the rows taken.
    pub ids: Vec<i64>,
    /// Keys of the rows, in the same order.
    pub keys: Vec<Stale>,
    /// The time that the oldest has waited, in seconds.
    pub oldest_age_seconds: f64,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    redis_key: String,
    #[diesel(sql_type = Text)]
    nonce: String,
    #[diesel(sql_type = Double)]
    age: f64,
}

/// Leaves a repair for every key, in the caller's transaction.
pub async fn add(connection: &mut AsyncPgConnection, org: Uuid, keys: &[Key], nonce: &Nonce) -> Result<()> {
    Prepared(
        diesel::sql_query("INSERT INTO redis_repairs (org_id, redis_key, nonce) SELECT $1, unnest($2), $3")
            .bind::<SqlUuid, _>(org)
            .bind::<Array<Text>, _>(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>())
            .bind::<Text, _>(nonce.as_str()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes up to `limit` rows, oldest first, leaving those that another instance has, and those that are parked.
pub async fn take(connection: &mut AsyncPgConnection, limit: i64) -> Result<Taken> {
    let rows: Vec<Row> = Prepared(
        diesel::sql_query(
            "SELECT id, redis_key, nonce, EXTRACT(EPOCH FROM now() - created_at)::float8 AS age \
             FROM redis_repairs WHERE tries < $2 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
        )
        .bind::<BigInt, _>(limit)
        .bind::<Integer, _>(TRIES),
    )
    .load(connection)
    .await?;
    Ok(Taken {
        ids: rows.iter().map(|row| row.id).collect(),
        oldest_age_seconds: rows.iter().map(|row| row.age).fold(0.0, f64::max),
        keys: rows.into_iter().map(|row| Stale { key: row.redis_key, writer: row.nonce }).collect(),
    })
}

/// Counts the repairs that wait to be made, those that another instance has taken included.
pub async fn waiting(connection: &mut AsyncPgConnection) -> Result<i64> {
    Ok(redis_repairs::table.filter(redis_repairs::tries.lt(TRIES)).count().get_result(connection).await?)
}

/// Removes rows that were repaired.
pub async fn remove(connection: &mut AsyncPgConnection, ids: &[i64]) -> Result<()> {
    diesel::delete(redis_repairs::table.filter(redis_repairs::id.eq_any(ids))).execute(connection).await?;
    Ok(())
}

/// Counts a failed try of rows, and returns how many are parked by it.
pub async fn fail(connection: &mut AsyncPgConnection, ids: &[i64]) -> Result<usize> {
    let tries: Vec<i32> = diesel::update(redis_repairs::table.filter(redis_repairs::id.eq_any(ids)))
        .set(redis_repairs::tries.eq(redis_repairs::tries + 1))
        .returning(redis_repairs::tries)
        .get_results(connection)
        .await?;
    Ok(tries.into_iter().filter(|tries| *tries == TRIES).count())
}
