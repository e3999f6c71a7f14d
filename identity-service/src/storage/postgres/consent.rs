//! Consent signals of browsers.

use diesel::{
    prelude::*,
    sql_types::{Array, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use migrations::schema::consent;
use uuid::Uuid;

use super::rows::ConsentRow;
use crate::error::Result;
use migrations::prepared::Prepared;

/// Finds the signals stored for these browsers, in no order; browsers that sent none are left out.
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

/// Stores the signals of browsers, locks their rows until the end of the transaction, and returns them as they
/// are now. A row without signals leaves the stored ones as they are.
pub async fn store(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    rows: &[ConsentRow],
) -> Result<Vec<ConsentRow>> {
    let stored = Prepared(
        diesel::sql_query(
            "INSERT INTO consent (org_id, anonymous_id, signals, sec_gpc, updated_at) \
         SELECT $1, * FROM unnest($2, $3, $4, $5) \
         ON CONFLICT (org_id, anonymous_id) DO UPDATE SET \
             signals = COALESCE(excluded.signals, consent.signals), \
             sec_gpc = excluded.sec_gpc, updated_at = excluded.updated_at \
         RETURNING anonymous_id, signals, sec_gpc, updated_at",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<Text>, _>(rows.iter().map(|row| row.anonymous_id.as_str()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(rows.iter().map(|row| row.signals.as_deref()).collect::<Vec<_>>())
        .bind::<Array<Bool>, _>(rows.iter().map(|row| row.sec_gpc).collect::<Vec<_>>())
        .bind::<Array<Timestamptz>, _>(rows.iter().map(|row| row.updated_at).collect::<Vec<_>>()),
    )
    .load(connection)
    .await?;
    Ok(stored)
}

#[derive(QueryableByName)]
struct Newest {
    #[diesel(sql_type = SqlUuid)]
    canonical_id: Uuid,
    #[diesel(embed)]
    row: ConsentRow,
}

/// Finds the newest signals among the browsers of each canonical identity: of those tied by a proof, else of all.
pub async fn newest(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    canonicals: &[Uuid],
) -> Result<Vec<(Uuid, ConsentRow)>> {
    let newest: Vec<Newest> = Prepared(
        diesel::sql_query(
            "SELECT newest.canonical_id, own.* FROM ( \
             SELECT DISTINCT ON (l.canonical_id) l.canonical_id, c.anonymous_id \
             FROM links l JOIN consent c ON c.org_id = $1 AND c.anonymous_id = l.value \
             WHERE l.org_id = $1 AND l.kind = 0 AND l.canonical_id = ANY ($2) \
             ORDER BY l.canonical_id, l.via IN ('signed', 'user_hash', 'identity_token') DESC, \
                 c.updated_at DESC) AS newest \
         CROSS JOIN LATERAL ( \
             SELECT anonymous_id, signals, sec_gpc, updated_at FROM consent \
             WHERE org_id = $1 AND anonymous_id = newest.anonymous_id LIMIT 1) AS own",
        )
        .bind::<SqlUuid, _>(org)
        .bind::<Array<SqlUuid>, _>(canonicals),
    )
    .load(connection)
    .await?;
    Ok(newest.into_iter().map(|one| (one.canonical_id, one.row)).collect())
}
