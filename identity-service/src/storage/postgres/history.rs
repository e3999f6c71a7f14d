//! Merges that were made, and links that were refused.

use std::collections::BTreeMap;

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::{canonicals, link_refusals, merge_history};
use time::OffsetDateTime;
use uuid::Uuid;

use super::clusters::Moved;
use crate::error::Result;
use migrations::prepared::Prepared;

/// Most merges, and most refusals, that are shown of one person.
const SHOWN: i64 = 200;

/// A merge as it was recorded.
#[derive(Debug, QueryableByName)]
pub struct MergeRow {
    /// The ID that names the merge.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The canonical identity that was left.
    #[diesel(sql_type = SqlUuid)]
    pub survivor_id: Uuid,
    /// The canonical identity that was merged into it.
    #[diesel(sql_type = SqlUuid)]
    pub merged_id: Uuid,
    #[diesel(sql_type = Text)]
    moved: String,
    /// The time of the merge.
    #[diesel(sql_type = Timestamptz)]
    pub merged_at: OffsetDateTime,
    /// The time at which it was taken apart again; none where it stands.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub undone_at: Option<OffsetDateTime>,
}

impl MergeRow {
    /// Reads what moved from the merged identity to the survivor.
    pub fn moved(&self) -> Moved {
        serde_json::from_str(&self.moved).unwrap_or_default()
    }
}

/// Finds one merge by its ID.
pub async fn find(connection: &mut AsyncPgConnection, org: Uuid, merge: Uuid) -> Result<Option<MergeRow>> {
    Ok(Prepared(
        diesel::sql_query(
            "SELECT id, survivor_id, merged_id, moved::text AS moved, merged_at, undone_at \
             FROM merge_history WHERE org_id = $1 AND id = $2",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<SqlUuid, _>(merge),
    )
    .get_result(connection)
    .await
    .optional()?)
}

/// Finds the merges into these canonical identities, newest first.
pub async fn of(connection: &mut AsyncPgConnection, org: Uuid, canonicals: &[Uuid]) -> Result<Vec<MergeRow>> {
    Ok(Prepared(
        diesel::sql_query(
            "SELECT id, survivor_id, merged_id, moved::text AS moved, merged_at, undone_at \
             FROM merge_history WHERE org_id = $1 AND survivor_id = ANY ($2) \
             ORDER BY merged_at DESC, id DESC LIMIT $3",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(canonicals)
        .bind::<BigInt, _>(SHOWN),
    )
    .load(connection)
    .await?)
}

/// Finds all merges in which one of these canonical identities took part.
pub async fn among(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<Vec<MergeRow>> {
    Ok(Prepared(
        diesel::sql_query(
            "SELECT id, survivor_id, merged_id, moved::text AS moved, merged_at, undone_at \
             FROM merge_history WHERE org_id = $1 AND (survivor_id = ANY ($2) OR merged_id = ANY ($2))",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(canonicals),
    )
    .load(connection)
    .await?)
}

/// Records anew what `merge` moved.
pub async fn correct(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    merge: Uuid,
    moved: &Moved,
) -> Result<()> {
    Prepared(
        diesel::sql_query("UPDATE merge_history SET moved = $3::jsonb WHERE org_id = $1 AND id = $2")
            .bind::<SqlUuid, _>(org)
            .bind::<SqlUuid, _>(merge)
            .bind::<Text, _>(serde_json::to_string(moved).unwrap_or_default()),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a merge back: the merged identity is a root again, and so what had been merged into it before.
pub async fn undo(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    row: &MergeRow,
    root: Uuid,
    now: OffsetDateTime,
) -> Result<()> {
    let merged = diesel::update(canonicals::table.find((org, row.merged_id)));
    merged.set(canonicals::merged_into.eq(None::<Uuid>)).execute(connection).await?;
    let earlier = canonicals::table
        .filter(canonicals::org_id.eq(org))
        .filter(canonicals::id.eq_any(row.moved().merged))
        .filter(canonicals::merged_into.eq(root));
    diesel::update(earlier).set(canonicals::merged_into.eq(row.merged_id)).execute(connection).await?;
    let own = merge_history::table.filter(merge_history::org_id.eq(org)).filter(merge_history::id.eq(row.id));
    diesel::update(own).set(merge_history::undone_at.eq(now)).execute(connection).await?;
    Ok(())
}

/// Returns these roots and all canonical identities that were merged into them, each with its root.
pub async fn all_of(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    roots: &[Uuid],
) -> Result<BTreeMap<Uuid, Uuid>> {
    let merged: Vec<(Uuid, Option<Uuid>)> = canonicals::table
        .filter(canonicals::org_id.eq(org))
        .filter(canonicals::merged_into.eq_any(roots))
        .select((canonicals::id, canonicals::merged_into))
        .load(connection)
        .await?;
    let merged = merged.into_iter().filter_map(|(id, root)| Some((id, root?)));
    Ok(roots.iter().map(|root| (*root, *root)).chain(merged).collect())
}

/// A refusal to link an identifier to a canonical identity, and its count.
#[derive(Debug, QueryableByName)]
pub struct RefusalRow {
    /// The name by which the identifier is recorded.
    #[diesel(sql_type = Text)]
    pub identifier: String,
    /// Name of the reason in the contract (`RefusalReason`).
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The number of times it was refused.
    #[diesel(sql_type = Integer)]
    pub times: i32,
    /// The time of the last refusal.
    #[diesel(sql_type = Timestamptz)]
    pub last_at: OffsetDateTime,
}

/// Finds the refusals of these canonical identities, newest first.
pub async fn refusals(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    ids: &[Uuid],
) -> Result<Vec<RefusalRow>> {
    let rows: Vec<(String, String, i32, OffsetDateTime)> = link_refusals::table
        .filter(link_refusals::org_id.eq(org))
        .filter(link_refusals::canonical_id.eq_any(ids))
        .order(link_refusals::last_at.desc())
        .select((
            link_refusals::identifier,
            link_refusals::reason,
            link_refusals::times,
            link_refusals::last_at,
        ))
        .limit(SHOWN)
        .load(connection)
        .await?;
    let row = |(identifier, reason, times, last_at)| RefusalRow { identifier, reason, times, last_at };
    Ok(rows.into_iter().map(row).collect())
}
