//! Proofs that count once: messages of signed calls that changed the graph, and link tokens.

use std::collections::{BTreeSet, HashSet};

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Binary, Date as SqlDate, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::used_proofs;
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    pii::Digest,
};
use migrations::prepared::Prepared;

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

/// Uses proofs up, sorted. [`Error::Moved`] where somebody used one meanwhile. A month has each once; that none counts in
/// two of them the locks see to: the same proof names the same people.
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
            "INSERT INTO used_proofs (org_id, digest, month) SELECT $1, unnest($2), date_trunc('month', $3::date::timestamp) \
             ON CONFLICT (org_id, digest, month) DO NOTHING",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Binary>, _>(digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
        .bind::<SqlDate, _>(now.date()),
    )
    .execute(connection)
    .await?;
    if spent == digests.len() { Ok(()) } else { Err(Error::Moved) }
}

/// Makes room for the proofs of this month and of two to come, forgets the months that ended 400 days before `today`, as
/// long as anybody who is not seen is kept, and returns how many months these were.
pub async fn keep_months(connection: &mut AsyncPgConnection, today: Date) -> Result<i64> {
    let kept = diesel::sql_query("SELECT keep_used_proofs($1) AS dropped").bind::<SqlDate, _>(today);
    let kept: Kept = Prepared(kept).get_result(connection).await?;
    Ok(kept.dropped)
}

#[derive(QueryableByName)]
struct Kept {
    #[diesel(sql_type = BigInt)]
    dropped: i64,
}
