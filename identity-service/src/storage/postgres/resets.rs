//! Browsers' IDs that began by a reset, with those that they replaced.

use std::collections::BTreeSet;

use diesel::{
    prelude::*,
    sql_types::{Array, Integer, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::resets;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::Result;
use migrations::prepared::Prepared;

/// An anonymous ID that began by a reset, and one that it replaced.
pub type Reset = (String, String);

/// Most resets in a row that are followed.
const MAX_STEPS: i32 = 100;

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    began: String,
    #[diesel(sql_type = Text)]
    replaced: String,
}

/// Finds which of `browsers` began by a reset of another of them, or of one that began so itself.
pub async fn among(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    browsers: &[&str],
) -> Result<BTreeSet<Reset>> {
    let found: Vec<Found> = Prepared(
        diesel::sql_query(
            "WITH RECURSIVE chain (began, replaced, steps) AS ( \
                 SELECT anonymous_id, replaced, 1 FROM resets WHERE org_id = $1 AND anonymous_id = ANY ($2) \
                 UNION SELECT chain.began, further.replaced, steps + 1 FROM chain \
                 JOIN resets further ON further.org_id = $1 AND further.anonymous_id = chain.replaced \
                 WHERE steps < $3) \
             SELECT DISTINCT began, replaced FROM chain WHERE replaced = ANY ($2)",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Text>, _>(browsers)
        .bind::<Integer, _>(MAX_STEPS),
    )
    .load(connection)
    .await?;
    Ok(found.into_iter().map(|Found { began, replaced }| (began, replaced)).collect())
}

/// Records resets; those that are known stay as they are.
pub async fn record(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    new: &BTreeSet<Reset>,
    now: OffsetDateTime,
) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    Prepared(
        diesel::sql_query(
            "INSERT INTO resets (org_id, anonymous_id, replaced, at) SELECT $1, new.*, $4 \
             FROM unnest($2, $3) AS new (anonymous_id, replaced) ON CONFLICT DO NOTHING",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Text>, _>(new.iter().map(|(began, _)| began.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(new.iter().map(|(_, replaced)| replaced.as_str()).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the resets that name any of `browsers`.
pub async fn remove(connection: &mut AsyncPgConnection, org: Uuid, browsers: &[&str]) -> Result<()> {
    let named = resets::anonymous_id.eq_any(browsers).or(resets::replaced.eq_any(browsers));
    diesel::delete(resets::table.filter(resets::org_id.eq(org)).filter(named)).execute(connection).await?;
    Ok(())
}
