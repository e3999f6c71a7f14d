//! Finding canonical identities, and linking further identifiers to them.

use std::collections::{BTreeSet, HashMap};

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::links;
use uuid::Uuid;

use super::{clusters::MAX_IDENTIFIERS, prepared::Prepared};
use crate::{
    error::{Error, Result},
    identifiers::{Identifier, Kind},
};

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
}

/// Finds the root of each identifier's canonical identity, in the order asked; none where it is unknown.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[Identifier],
) -> Result<Vec<Option<Uuid>>> {
    let kinds: Vec<i16> = ids.iter().map(|id| id.kind.number()).collect();
    let values: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
    let found: Vec<Found> = Prepared(
        diesel::sql_query(
            // One look-up each: PostgreSQL would read the whole of a table that it takes for small.
            "SELECT wanted.at, own.canonical_id FROM unnest($2, $3) WITH ORDINALITY AS wanted (kind, value, at) \
         CROSS JOIN LATERAL ( \
             SELECT COALESCE(c.merged_into, c.id) AS canonical_id \
             FROM links l JOIN canonicals c ON c.org_id = $1 AND c.id = l.canonical_id \
             WHERE l.org_id = $1 AND l.kind = wanted.kind AND l.value = wanted.value LIMIT 1) AS own",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(kinds)
        .bind::<Array<Text>, _>(values),
    )
    .load(connection)
    .await?;
    Ok(in_order(ids.len(), found))
}

/// Finds the root of each canonical ID, in the order asked; none where it is unknown.
pub async fn roots(connection: &mut AsyncPgConnection, org: Uuid, ids: &[Uuid]) -> Result<Vec<Option<Uuid>>> {
    let found: Vec<Found> = Prepared(
        diesel::sql_query(
            "SELECT wanted.at, own.canonical_id FROM unnest($2) WITH ORDINALITY AS wanted (id, at) \
         CROSS JOIN LATERAL ( \
             SELECT COALESCE(c.merged_into, c.id) AS canonical_id FROM canonicals c \
             WHERE c.org_id = $1 AND c.id = wanted.id LIMIT 1) AS own",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(ids),
    )
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

/// Locks the canonical identities of browsers until the end of the transaction and returns the root of each;
/// unknown browsers are left out.
pub async fn lock_by_anonymous_ids(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    anonymous_ids: &[&str],
) -> Result<HashMap<String, Uuid>> {
    let before = homes(connection, org, anonymous_ids).await?;
    lock(connection, org, before.values().copied()).await?;
    // A browser may have moved to another identity meanwhile, which is not locked.
    if before.is_empty() || homes(connection, org, anonymous_ids).await? == before {
        Ok(before)
    } else {
        Err(Error::Moved)
    }
}

async fn homes(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    anonymous_ids: &[&str],
) -> Result<HashMap<String, Uuid>> {
    let linked: Vec<(String, Uuid)> = links::table
        .filter(links::org_id.eq(org))
        .filter(links::kind.eq(Kind::AnonymousId.number()))
        .filter(links::value.eq_any(anonymous_ids))
        .select((links::value, links::canonical_id))
        .load(connection)
        .await?;
    Ok(linked.into_iter().collect())
}

/// Locks canonical identities until the end of the transaction, each once and in one order for all writers, so that
/// they can't wait for each other in a circle. [`Error::Moved`] where one is no root any more: somebody was faster,
/// and locking on would break the order.
pub async fn lock(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    roots: impl IntoIterator<Item = Uuid>,
) -> Result<()> {
    let roots: BTreeSet<Uuid> = roots.into_iter().collect();
    if roots.is_empty() {
        return Ok(());
    }
    let locked: Vec<Locked> = Prepared(
        diesel::sql_query(
            "SELECT merged_into FROM canonicals WHERE org_id = $1 AND id = ANY ($2) \
             ORDER BY id FOR NO KEY UPDATE",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(roots.iter().copied().collect::<Vec<_>>()),
    )
    .load(connection)
    .await?;
    let are_roots = locked.len() == roots.len() && locked.iter().all(|row| row.merged_into.is_none());
    if are_roots { Ok(()) } else { Err(Error::Moved) }
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    merged_into: Option<Uuid>,
}

#[derive(QueryableByName)]
struct Browser {
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
    #[diesel(sql_type = Text)]
    value: String,
}

/// Finds the browsers of each canonical identity, those used last, at most `MAX_IDENTIFIERS` of each.
pub async fn anonymous_ids(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<Vec<(Uuid, String)>> {
    let found: Vec<Browser> = Prepared(
        diesel::sql_query(
            "SELECT wanted.id AS canonical_id, own.value FROM unnest($2) AS wanted (id) \
         CROSS JOIN LATERAL ( \
             SELECT value FROM links WHERE org_id = $1 AND canonical_id = wanted.id AND kind = 0 \
             ORDER BY last_used_at DESC LIMIT $3) AS own",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(canonicals)
        .bind::<BigInt, _>(i64::try_from(MAX_IDENTIFIERS).unwrap_or(i64::MAX)),
    )
    .load(connection)
    .await?;
    Ok(found.into_iter().map(|row| (row.canonical_id, row.value)).collect())
}
