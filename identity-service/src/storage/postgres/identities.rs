//! Finding canonical identities, and linking further identifiers to them.

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::links;
use uuid::Uuid;

use crate::{
    error::Result,
    identifiers::{Identifier, Kind},
};

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
}

/// The root of each identifier's canonical identity, in the order asked; none where it is unknown.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[Identifier],
) -> Result<Vec<Option<Uuid>>> {
    let kinds: Vec<i16> = ids.iter().map(|id| id.kind.number()).collect();
    let values: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
    let found: Vec<Found> = diesel::sql_query(
        "SELECT wanted.at, COALESCE(c.merged_into, c.id) AS canonical_id \
         FROM unnest($2, $3) WITH ORDINALITY AS wanted (kind, value, at) \
         JOIN links l ON l.org_id = $1 AND l.kind = wanted.kind AND l.value = wanted.value \
         JOIN canonicals c ON c.org_id = $1 AND c.id = l.canonical_id",
    )
    .bind::<SqlUuid, _>(org)
    .bind::<Array<SmallInt>, _>(kinds)
    .bind::<Array<Text>, _>(values)
    .load(connection)
    .await?;
    Ok(in_order(ids.len(), found))
}

/// The root of each canonical ID, in the order asked; none where it is unknown.
pub async fn roots(connection: &mut AsyncPgConnection, org: Uuid, ids: &[Uuid]) -> Result<Vec<Option<Uuid>>> {
    let found: Vec<Found> = diesel::sql_query(
        "SELECT wanted.at, COALESCE(c.merged_into, c.id) AS canonical_id \
         FROM unnest($2) WITH ORDINALITY AS wanted (id, at) \
         JOIN canonicals c ON c.org_id = $1 AND c.id = wanted.id",
    )
    .bind::<SqlUuid, _>(org)
    .bind::<Array<SqlUuid>, _>(ids)
    .load(connection)
    .await?;
    Ok(in_order(ids.len(), found))
}

fn in_order(length: usize, found: Vec<Found>) -> Vec<Option<Uuid>> {
    let mut roots = vec![None; length];
    for row in found {
        let index = usize::try_from(row.at - 1).unwrap_or(usize::MAX);
        if let Some(slot) = roots.get_mut(index) {
            *slot = Some(row.canonical_id);
        }
    }
    roots
}

/// Links unknown identifiers to `canonical`. One that somebody else linked meanwhile stays there.
pub async fn link(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonical: Uuid,
    ids: &[(Identifier, bool)],
) -> Result<()> {
    let mut ids: Vec<&(Identifier, bool)> = ids.iter().collect();
    // One order for all writers, so that they can't wait for each other in a circle.
    ids.sort();
    diesel::sql_query(
        "INSERT INTO links (org_id, canonical_id, kind, value, verified) \
         SELECT $1, $2, kind, value, verified FROM unnest($3, $4, $5) AS new (kind, value, verified) \
         ON CONFLICT (org_id, kind, value) DO NOTHING",
    )
    .bind::<SqlUuid, _>(org)
    .bind::<SqlUuid, _>(canonical)
    .bind::<Array<SmallInt>, _>(ids.iter().map(|(id, _)| id.kind.number()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ids.iter().map(|(id, _)| id.value.as_str()).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(ids.iter().map(|(_, verified)| *verified).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    merged_into: Option<Uuid>,
}

/// Locks the canonical identity of a browser until the end of the transaction and returns its root; none
/// where the browser is unknown.
pub async fn lock_by_anonymous_id(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    anonymous_id: &str,
) -> Result<Option<Uuid>> {
    let linked: Option<Uuid> = links::table
        .filter(links::org_id.eq(org))
        .filter(links::kind.eq(Kind::AnonymousId.number()))
        .filter(links::value.eq(anonymous_id))
        .select(links::canonical_id)
        .first(connection)
        .await
        .optional()?;
    match linked {
        Some(canonical) => lock_root(connection, org, canonical).await,
        None => Ok(None),
    }
}

/// Locks the canonical identities of browsers, each once and in one order for all writers, until the end of the
/// transaction. Returns their roots, sorted.
pub async fn lock_by_anonymous_ids(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    anonymous_ids: &[&str],
) -> Result<Vec<Uuid>> {
    let mut linked: Vec<Uuid> = links::table
        .filter(links::org_id.eq(org))
        .filter(links::kind.eq(Kind::AnonymousId.number()))
        .filter(links::value.eq_any(anonymous_ids))
        .select(links::canonical_id)
        .load(connection)
        .await?;
    linked.sort_unstable();
    linked.dedup();
    let mut roots = Vec::with_capacity(linked.len());
    for canonical in linked {
        roots.extend(lock_root(connection, org, canonical).await?);
    }
    roots.sort_unstable();
    roots.dedup();
    Ok(roots)
}

/// Locks the root of `canonical` until the end of the transaction; none where it does not exist.
pub async fn lock_root(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonical: Uuid,
) -> Result<Option<Uuid>> {
    let mut wanted = canonical;
    // A merge may move the root between two reads; it moves to an older one each time, so this ends.
    for _ in 0..8 {
        let row: Option<Locked> = diesel::sql_query(
            "SELECT id, merged_into FROM canonicals WHERE org_id = $1 AND id = $2 FOR UPDATE",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<SqlUuid, _>(wanted)
        .get_result(connection)
        .await
        .optional()?;
        match row {
            None => return Ok(None),
            Some(Locked { id, merged_into: None }) => return Ok(Some(id)),
            Some(Locked { merged_into: Some(root), .. }) => wanted = root,
        }
    }
    Ok(None)
}

/// The browsers of a canonical identity.
pub async fn anonymous_ids(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonical: Uuid,
) -> Result<Vec<String>> {
    Ok(links::table
        .filter(links::org_id.eq(org))
        .filter(links::canonical_id.eq(canonical))
        .filter(links::kind.eq(Kind::AnonymousId.number()))
        .order(links::value)
        .select(links::value)
        .load(connection)
        .await?)
}
