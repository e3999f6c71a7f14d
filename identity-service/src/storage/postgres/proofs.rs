//! Proofs that count once: messages of signed calls that changed the graph, and link tokens.

use std::collections::{BTreeSet, HashSet};

use diesel::{
    prelude::*,
    sql_types::{Array, Binary, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::used_proofs;
use time::OffsetDateTime;
use uuid::Uuid;

use super::prepared::Prepared;
use crate::{
    error::{Error, Result},
    pii::Digest,
};

/// Finds those of `digests` that were used before.
pub async fn used(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    digests: &BTreeSet<Digest>,
) -> Result<HashSet<Digest>> {
    if digests.is_empty() {
        return Ok(HashSet::new());
    }
    let digests: Vec<&[u8]> = digests.iter().map(<[u8; 32]>::as_slice).collect();
    let used: Vec<Vec<u8>> = used_proofs::table
        .filter(used_proofs::org_id.eq(org))
        .filter(used_proofs::digest.eq_any(digests))
        .select(used_proofs::digest)
        .load(connection)
        .await?;
    Ok(used.into_iter().filter_map(|digest| digest.try_into().ok()).collect())
}

/// Uses proofs up, sorted. [`Error::Moved`] where somebody used one meanwhile.
pub async fn spend(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    digests: &BTreeSet<Digest>,
    now: OffsetDateTime,
) -> Result<()> {
    if digests.is_empty() {
        return Ok(());
    }
    let spent = Prepared(
        diesel::sql_query(
            "INSERT INTO used_proofs (org_id, digest, used_at) SELECT $1, unnest($2), $3 \
             ON CONFLICT (org_id, digest) DO NOTHING",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Binary>, _>(digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
        .bind::<Timestamptz, _>(now),
    )
    .execute(connection)
    .await?;
    if spent == digests.len() { Ok(()) } else { Err(Error::Moved) }
}
