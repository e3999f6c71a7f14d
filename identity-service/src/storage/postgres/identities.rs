//! Finding canonical identities, and linking further identifiers to them.

use std::collections::{HashMap, HashSet};

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::links;
use uuid::Uuid;

use super::prepared::Prepared;
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

/// Identifiers of one canonical identity (design section 7, guards).
const MAX_BROWSERS: i64 = 50;

/// The root of each identifier's canonical identity, in the order asked; none where it is unknown.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[Identifier],
) -> Result<Vec<Option<Uuid>>> {
    let kinds: Vec<i16> = ids.iter().map(|id| id.kind.number()).collect();
    let values: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
    let found: Vec<Found> = Prepared(
        diesel::sql_query(
            "SELECT wanted.at, COALESCE(c.merged_into, c.id) AS canonical_id \
         FROM unnest($2, $3) WITH ORDINALITY AS wanted (kind, value, at) \
         JOIN links l ON l.org_id = $1 AND l.kind = wanted.kind AND l.value = wanted.value \
         JOIN canonicals c ON c.org_id = $1 AND c.id = l.canonical_id",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SmallInt>, _>(kinds)
        .bind::<Array<Text>, _>(values),
    )
    .load(connection)
    .await?;
    Ok(in_order(ids.len(), found))
}

/// The root of each canonical ID, in the order asked; none where it is unknown.
pub async fn roots(connection: &mut AsyncPgConnection, org: Uuid, ids: &[Uuid]) -> Result<Vec<Option<Uuid>>> {
    let found: Vec<Found> = Prepared(
        diesel::sql_query(
            "SELECT wanted.at, COALESCE(c.merged_into, c.id) AS canonical_id \
         FROM unnest($2) WITH ORDINALITY AS wanted (id, at) \
         JOIN canonicals c ON c.org_id = $1 AND c.id = wanted.id",
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

/// Those of the canonical identities that have a user.
pub async fn with_user(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<HashSet<Uuid>> {
    let found: Vec<Uuid> = links::table
        .filter(links::org_id.eq(org))
        .filter(links::canonical_id.eq_any(canonicals))
        .filter(links::kind.eq(Kind::UserId.number()))
        .select(links::canonical_id)
        .load(connection)
        .await?;
    Ok(found.into_iter().collect())
}

/// Links identifiers to canonical identities, each with whether it is vouched for. One that is linked already
/// stays where it is.
pub async fn link(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[(&Identifier, Uuid, bool)],
) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO links (org_id, canonical_id, kind, value, verified) \
         SELECT $1, * FROM unnest($2, $3, $4, $5) ON CONFLICT (org_id, kind, value) DO NOTHING",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(ids.iter().map(|(_, canonical, _)| *canonical).collect::<Vec<_>>())
        .bind::<Array<SmallInt>, _>(ids.iter().map(|(id, _, _)| id.kind.number()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(ids.iter().map(|(id, _, _)| id.value.as_str()).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(ids.iter().map(|(_, _, verified)| *verified).collect::<Vec<_>>()),
    )
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

/// Locks the canonical identities of browsers until the end of the transaction and returns the root of each;
/// unknown browsers are left out.
pub async fn lock_by_anonymous_ids(
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
    let canonicals: Vec<Uuid> = linked.iter().map(|(_, canonical)| *canonical).collect();
    let roots = lock_roots(connection, org, &canonicals).await?;
    Ok(linked
        .into_iter()
        .filter_map(|(browser, canonical)| Some((browser, *roots.get(&canonical)?)))
        .collect())
}

/// Locks the roots of canonical identities until the end of the transaction, each once and in one order for
/// all writers, so that they can't wait for each other in a circle. Those that do not exist are left out.
pub async fn lock_roots(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<HashMap<Uuid, Uuid>> {
    let mut roots: HashMap<Uuid, Uuid> = canonicals.iter().map(|id| (*id, *id)).collect();
    // A merge may move a root between two looks; it moves to an older one each time, so this ends.
    for _ in 0..8 {
        let mut wanted: Vec<Uuid> = roots.values().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            break;
        }
        let locked: Vec<Locked> = Prepared(
            diesel::sql_query(
                "SELECT id, merged_into FROM canonicals WHERE org_id = $1 AND id = ANY ($2) \
             ORDER BY id FOR NO KEY UPDATE",
            )
            .bind::<SqlUuid, _>(org)
            .bind::<Array<SqlUuid>, _>(&wanted),
        )
        .load(connection)
        .await?;
        let rows: HashMap<Uuid, Option<Uuid>> =
            locked.into_iter().map(|row| (row.id, row.merged_into)).collect();
        roots.retain(|_, root| rows.contains_key(root));
        if rows.values().all(Option::is_none) {
            break;
        }
        for root in roots.values_mut() {
            if let Some(Some(moved)) = rows.get(root) {
                *root = *moved;
            }
        }
    }
    Ok(roots)
}

#[derive(QueryableByName)]
struct Browser {
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
    #[diesel(sql_type = Text)]
    value: String,
}

/// The browsers of each canonical identity, those used last.
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
        .bind::<BigInt, _>(MAX_BROWSERS),
    )
    .load(connection)
    .await?;
    Ok(found.into_iter().map(|row| (row.canonical_id, row.value)).collect())
}
