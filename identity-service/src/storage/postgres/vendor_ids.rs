//! Vendor IDs of canonical identities.

use std::collections::BTreeSet;

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::{expiry_progress, vendor_ids};
use time::OffsetDateTime;
use uuid::Uuid;

use migrations::prepared::Prepared;

use super::rows::{Owner, VendorIdRow};
use crate::error::Result;

/// Finds all IDs stored for these canonical identities, expired ones included.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<Vec<VendorIdRow>> {
    Ok(vendor_ids::table
        .filter(vendor_ids::org_id.eq(org))
        .filter(vendor_ids::canonical_id.eq_any(canonicals))
        .order((vendor_ids::canonical_id, vendor_ids::field, vendor_ids::owner_kind, vendor_ids::owner))
        .select(VendorIdRow::as_select())
        .load(connection)
        .await?)
}

/// Stores IDs, each in the place of its owner's earlier one in the field. No field of an owner comes twice.
pub async fn store(connection: &mut AsyncPgConnection, org: Uuid, rows: &[&VendorIdRow]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO vendor_ids (org_id, canonical_id, field, owner_kind, owner, value, source, \
             collected_at, expires_at, pipeline_id, is_withheld) \
         SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (org_id, canonical_id, field, owner_kind, owner) DO UPDATE SET value = excluded.value, \
             source = excluded.source, collected_at = excluded.collected_at, \
             expires_at = excluded.expires_at, pipeline_id = excluded.pipeline_id, \
             is_withheld = excluded.is_withheld",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.canonical_id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.field.as_str()).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(rows.iter().map(|row| row.owner.kind()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.owner.text()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.value.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.source.as_str()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.collected_at).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.expires_at).collect::<Vec<_>>())
        .bind::<Array<Nullable<SqlUuid>>, _>(rows.iter().map(|row| row.pipeline_id).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(rows.iter().map(|row| row.is_withheld).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The place of an ID: its canonical identity, field and owner.
pub type Place<'a> = (Uuid, &'a str, &'a Owner);

/// Removes IDs.
pub async fn remove(connection: &mut AsyncPgConnection, org: Uuid, places: &[Place<'_>]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "DELETE FROM vendor_ids USING unnest($2, $3, $4, $5) AS old (canonical_id, field, owner_kind, owner) \
             WHERE vendor_ids.org_id = $1 AND vendor_ids.canonical_id = old.canonical_id \
                 AND vendor_ids.field = old.field AND vendor_ids.owner_kind = old.owner_kind \
                 AND vendor_ids.owner = old.owner",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(places.iter().map(|(canonical, ..)| *canonical).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(places.iter().map(|(_, field, _)| *field).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(places.iter().map(|(.., owner)| owner.kind()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(places.iter().map(|(.., owner)| owner.text()).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct EndedRow {
    #[diesel(sql_type = SqlUuid)]
    org_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    expires_at: OffsetDateTime,
    #[diesel(sql_type = Bool)]
    has_others: bool,
}

/// Vendor IDs that have ended.
pub struct Ended {
    /// Canonical identities, with their organisation, that have others which live.
    pub with_others: BTreeSet<(Uuid, Uuid)>,
    /// The end of life up to which these are all.
    pub until: OffsetDateTime,
    /// True where there may be more.
    pub is_full: bool,
}

/// Finds the IDs that ended until `now` and after what `expiry_progress` says, the earliest first: `limit` of them,
/// and those that ended at the same moment as the last. None where nothing has ended.
pub async fn ended(
    connection: &mut AsyncPgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Option<Ended>> {
    let ended: Vec<EndedRow> = Prepared(
        diesel::sql_query(
            "SELECT gone.org_id, gone.canonical_id, gone.expires_at, EXISTS ( \
                 SELECT FROM vendor_ids living WHERE living.org_id = gone.org_id \
                     AND living.canonical_id = gone.canonical_id AND living.expires_at > $1) AS has_others \
             FROM (SELECT org_id, canonical_id, expires_at FROM vendor_ids \
                 WHERE expires_at > (SELECT expires_at FROM expiry_progress) AND expires_at <= $1 \
                 ORDER BY expires_at FETCH FIRST ($2) ROWS WITH TIES) AS gone",
        )
        .bind::<Timestamptz, _>(now)
        .bind::<BigInt, _>(limit),
    )
    .load(connection)
    .await?;
    let is_full = i64::try_from(ended.len()).is_ok_and(|rows| rows >= limit);
    let until = ended.iter().map(|row| row.expires_at).max();
    let with_others = ended.iter().filter(|row| row.has_others);
    let with_others = with_others.map(|row| (row.org_id, row.canonical_id)).collect();
    Ok(until.map(|until| Ended { with_others, until, is_full }))
}

/// Notes that all that ended until `until` has been followed by what stands behind it.
pub async fn followed(connection: &mut AsyncPgConnection, until: OffsetDateTime) -> Result<()> {
    diesel::update(expiry_progress::table.filter(expiry_progress::expires_at.lt(until)))
        .set(expiry_progress::expires_at.eq(until))
        .execute(connection)
        .await?;
    Ok(())
}
