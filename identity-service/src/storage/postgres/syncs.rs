//! The schedule of syncs, and the states that have been used.

use diesel::{
    prelude::*,
    sql_types::{Text, Timestamptz, Uuid as SqlUuid},
    upsert::excluded,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::sync_attempts;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::AttemptRow;
use crate::{error::Result, sync::schedule::Attempt};

/// Every vendor that was tried for a canonical identity.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonical: Uuid,
) -> Result<Vec<(String, Attempt)>> {
    let rows: Vec<AttemptRow> = sync_attempts::table
        .filter(sync_attempts::org_id.eq(org))
        .filter(sync_attempts::canonical_id.eq(canonical))
        .order(sync_attempts::vendor)
        .select(AttemptRow::as_select())
        .load(connection)
        .await?;
    Ok(rows.into_iter().map(AttemptRow::into_attempt).collect())
}

/// Stores the schedule of one vendor.
pub async fn store(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonical: Uuid,
    vendor: &str,
    attempt: &Attempt,
) -> Result<()> {
    diesel::insert_into(sync_attempts::table)
        .values((
            sync_attempts::org_id.eq(org),
            sync_attempts::canonical_id.eq(canonical),
            sync_attempts::vendor.eq(vendor),
            sync_attempts::last_synced.eq(attempt.last_synced),
            sync_attempts::ttl_days.eq(attempt.ttl_days),
            sync_attempts::outcome.eq(attempt.outcome.word()),
            sync_attempts::attempts.eq(attempt.attempts),
            sync_attempts::unanswered_since.eq(attempt.unanswered_since),
            sync_attempts::next_at.eq(attempt.next_at),
        ))
        .on_conflict((sync_attempts::org_id, sync_attempts::canonical_id, sync_attempts::vendor))
        .do_update()
        .set((
            sync_attempts::last_synced.eq(excluded(sync_attempts::last_synced)),
            sync_attempts::ttl_days.eq(excluded(sync_attempts::ttl_days)),
            sync_attempts::outcome.eq(excluded(sync_attempts::outcome)),
            sync_attempts::attempts.eq(excluded(sync_attempts::attempts)),
            sync_attempts::unanswered_since.eq(excluded(sync_attempts::unanswered_since)),
            sync_attempts::next_at.eq(excluded(sync_attempts::next_at)),
        ))
        .execute(connection)
        .await?;
    Ok(())
}

/// Uses up a state. False where it, or a later one of that browser and vendor, was used before.
pub async fn use_state(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    anonymous_id: &str,
    vendor: &str,
    issued_at: OffsetDateTime,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "INSERT INTO used_states (org_id, anonymous_id, vendor, issued_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (org_id, anonymous_id, vendor) DO UPDATE SET issued_at = excluded.issued_at \
         WHERE used_states.issued_at < excluded.issued_at",
    )
    .bind::<SqlUuid, _>(org)
    .bind::<Text, _>(anonymous_id)
    .bind::<Text, _>(vendor)
    .bind::<Timestamptz, _>(issued_at)
    .execute(connection)
    .await?;
    Ok(changed == 1)
}
