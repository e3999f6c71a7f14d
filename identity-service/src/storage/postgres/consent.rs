//! Consent signals of browsers.

use diesel::{
    prelude::*,
    sql_types::{Array, Text, Uuid as SqlUuid},
    upsert::excluded,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::consent;
use uuid::Uuid;

use super::rows::ConsentRow;
use crate::error::Result;

/// What is stored for these browsers, in no order; nothing for those that sent none.
pub async fn find(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    anonymous_ids: &[&str],
) -> Result<Vec<ConsentRow>> {
    Ok(consent::table
        .filter(consent::org_id.eq(org))
        .filter(consent::anonymous_id.eq_any(anonymous_ids))
        .select(ConsentRow::as_select())
        .load(connection)
        .await?)
}

/// Stores the signals of browsers, and locks their rows until the end of the transaction.
pub async fn store(connection: &mut AsyncPgConnection, org: Uuid, rows: &[ConsentRow]) -> Result<()> {
    let values: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                consent::org_id.eq(org),
                consent::anonymous_id.eq(&row.anonymous_id),
                consent::signals.eq(&row.signals),
                consent::sec_gpc.eq(row.sec_gpc),
                consent::updated_at.eq(row.updated_at),
            )
        })
        .collect();
    diesel::insert_into(consent::table)
        .values(values)
        .on_conflict((consent::org_id, consent::anonymous_id))
        .do_update()
        .set((
            consent::signals.eq(excluded(consent::signals)),
            consent::sec_gpc.eq(excluded(consent::sec_gpc)),
            consent::updated_at.eq(excluded(consent::updated_at)),
        ))
        .execute(connection)
        .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Newest {
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
    #[diesel(sql_type = Text)]
    anonymous_id: String,
}

/// The newest signals among the browsers of each canonical identity.
pub async fn newest(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<Vec<(Uuid, ConsentRow)>> {
    let newest: Vec<Newest> = diesel::sql_query(
        "SELECT DISTINCT ON (l.canonical_id) l.canonical_id, c.anonymous_id \
         FROM links l JOIN consent c ON c.org_id = $1 AND c.anonymous_id = l.value \
         WHERE l.org_id = $1 AND l.kind = 0 AND l.canonical_id = ANY ($2) \
         ORDER BY l.canonical_id, c.updated_at DESC",
    )
    .bind::<SqlUuid, _>(org)
    .bind::<Array<SqlUuid>, _>(canonicals)
    .load(connection)
    .await?;
    let ids: Vec<&str> = newest.iter().map(|row| row.anonymous_id.as_str()).collect();
    let rows = find(connection, org, &ids).await?;
    Ok(newest
        .iter()
        .filter_map(|pair| {
            let row = rows.iter().find(|row| row.anonymous_id == pair.anonymous_id)?;
            Some((pair.canonical_id, row.clone()))
        })
        .collect())
}
