//! People who were erased, by digests that tell nobody who they were.

use std::collections::HashMap;

use diesel::{
    prelude::*,
    sql_types::{Array, Binary, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::erased;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{error::Result, pii::Digest};
use migrations::prepared::Prepared;

/// Finds the time at which each of these was last erased; those that never were are left out.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    digests: &[Digest],
) -> Result<HashMap<Digest, OffsetDateTime>> {
    if digests.is_empty() {
        return Ok(HashMap::new());
    }
    let digests: Vec<&[u8]> = digests.iter().map(<[u8; 32]>::as_slice).collect();
    let found: Vec<(Vec<u8>, OffsetDateTime)> = erased::table
        .filter(erased::org_id.eq(org))
        .filter(erased::digest.eq_any(digests))
        .select((erased::digest, erased::erased_at))
        .load(connection)
        .await?;
    Ok(found.into_iter().filter_map(|(digest, at)| Some((digest.try_into().ok()?, at))).collect())
}

/// Remembers that the identifiers with these digests were erased at `now`.
pub async fn add(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    digests: &[Digest],
    now: OffsetDateTime,
) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO erased (org_id, digest, erased_at) SELECT $1, unnest($2), $3 \
             ON CONFLICT (org_id, digest) DO UPDATE SET erased_at = GREATEST(erased.erased_at, excluded.erased_at)",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Binary>, _>(digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now),
    )
    .execute(connection)
    .await?;
    Ok(())
}
