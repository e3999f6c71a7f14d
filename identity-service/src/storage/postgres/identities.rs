//! Finding canonical identities, and linking further identifiers to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::links;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    identifiers::{Identifier, Kind},
    storage::via::Via,
};
use migrations::prepared::Prepared;

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

/// Identifiers with the way in which each came to its canonical identity, by that identity.
pub type LinksByIdentity = HashMap<Uuid, BTreeMap<Identifier, Via>>;

/// Locks the canonical identities of `ids` until the end of the transaction. Returns the root of each, unknown ones
/// left out, and all that is linked to these roots.
pub async fn lock_by_ids(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[Identifier],
) -> Result<(HashMap<Identifier, Uuid>, LinksByIdentity)> {
    let found = find(connection, org, ids).await?;
    let known = ids.iter().cloned().zip(found).filter_map(|(id, root)| Some((id, root?)));
    let known: HashMap<Identifier, Uuid> = known.collect();
    if known.is_empty() {
        return Ok((known, LinksByIdentity::new()));
    }
    let roots: BTreeSet<Uuid> = known.values().copied().collect();
    lock(connection, org, roots.iter().copied()).await?;
    let roots: Vec<Uuid> = roots.into_iter().collect();
    let linked = linked(connection, org, &roots).await?;
    // One may have moved to another identity meanwhile, which is not locked.
    let is_there =
        |(id, root): (&Identifier, &Uuid)| linked.get(root).is_some_and(|own| own.contains_key(id));
    if known.iter().all(is_there) { Ok((known, linked)) } else { Err(Error::Moved) }
}

/// Finds all identifiers that are linked to these canonical identities.
pub async fn linked(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<LinksByIdentity> {
    let rows: Vec<(Uuid, i16, String, String)> = links::table
        .filter(links::org_id.eq(org))
        .filter(links::canonical_id.eq_any(canonicals))
        .select((links::canonical_id, links::kind, links::value, links::via))
        .load(connection)
        .await?;
    let mut linked = LinksByIdentity::new();
    for (canonical, kind, value, via) in rows {
        let id = Identifier { kind: Kind::from_number(kind), value };
        linked.entry(canonical).or_default().insert(id, Via::from_word(&via));
    }
    Ok(linked)
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
