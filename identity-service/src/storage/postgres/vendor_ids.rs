//! Vendor IDs of canonical identities.

use diesel::{
    prelude::*,
    sql_types::{Array, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::vendor_ids;
use uuid::Uuid;

use super::{prepared::Prepared, rows::VendorIdRow};
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
        .order((vendor_ids::canonical_id, vendor_ids::field))
        .select(VendorIdRow::as_select())
        .load(connection)
        .await?)
}

/// Stores IDs, each in the place of its field's earlier one. No field of an identity comes twice.
pub async fn store(connection: &mut AsyncPgConnection, org: Uuid, rows: &[&VendorIdRow]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO vendor_ids (org_id, canonical_id, field, value, source, collected_at, expires_at, \
             anonymous_id, pipeline_id) \
         SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (org_id, canonical_id, field) DO UPDATE SET value = excluded.value, \
             source = excluded.source, collected_at = excluded.collected_at, \
             expires_at = excluded.expires_at, anonymous_id = excluded.anonymous_id, \
             pipeline_id = excluded.pipeline_id",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(rows.iter().map(|row| row.canonical_id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.field.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.value.as_str()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.source.as_str()).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.collected_at).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.expires_at).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(
            rows.iter().map(|row| row.anonymous_id.as_deref()).collect::<Vec<_>>(),
        )
        .bind::<Array<Nullable<SqlUuid>>, _>(rows.iter().map(|row| row.pipeline_id).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes fields of canonical identities.
pub async fn remove(connection: &mut AsyncPgConnection, org: Uuid, fields: &[(Uuid, &str)]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "DELETE FROM vendor_ids USING unnest($2, $3) AS old (canonical_id, field) \
             WHERE vendor_ids.org_id = $1 AND vendor_ids.canonical_id = old.canonical_id \
                 AND vendor_ids.field = old.field",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(fields.iter().map(|(canonical, _)| *canonical).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(fields.iter().map(|(_, field)| *field).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}
