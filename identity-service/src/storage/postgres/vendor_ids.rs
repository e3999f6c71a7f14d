//! Vendor IDs of canonical identities.

use diesel::{prelude::*, upsert::excluded};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::vendor_ids;
use uuid::Uuid;

use super::rows::VendorIdRow;
use crate::error::Result;

/// Everything stored for these canonical identities, expired ones included.
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

/// Stores an ID in the place of the field's earlier one.
pub async fn store(connection: &mut AsyncPgConnection, org: Uuid, row: &VendorIdRow) -> Result<()> {
    diesel::insert_into(vendor_ids::table)
        .values((
            vendor_ids::org_id.eq(org),
            vendor_ids::canonical_id.eq(row.canonical_id),
            vendor_ids::field.eq(&row.field),
            vendor_ids::value.eq(&row.value),
            vendor_ids::source.eq(&row.source),
            vendor_ids::collected_at.eq(row.collected_at),
            vendor_ids::expires_at.eq(row.expires_at),
        ))
        .on_conflict((vendor_ids::org_id, vendor_ids::canonical_id, vendor_ids::field))
        .do_update()
        .set((
            vendor_ids::value.eq(excluded(vendor_ids::value)),
            vendor_ids::source.eq(excluded(vendor_ids::source)),
            vendor_ids::collected_at.eq(excluded(vendor_ids::collected_at)),
            vendor_ids::expires_at.eq(excluded(vendor_ids::expires_at)),
        ))
        .execute(connection)
        .await?;
    Ok(())
}
