//! The keys of organisations' tombstones, sealed like any other secret, so that they are sealed anew when the encryption
//! key is rotated.

use diesel::{
    QueryableByName,
    sql_types::{Binary, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::sealed::{CountedError, SealKeys, columns::TOMBSTONE_KEYS};
use proto::v1::ErrorReason;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    pii::tombstone::OrgKey,
};

/// Stores the keys of an organisation; those that are stored already stay as they are.
pub async fn add(
    connection: &mut AsyncPgConnection,
    seal: &SealKeys,
    org: Uuid,
    keys: &[OrgKey],
) -> Result<()> {
    let added = connection.transaction(async |connection| {
        for key in keys {
            let id = key.id();
            let sealed = seal.seal_counted(connection, TOMBSTONE_KEYS.place(org, id), key.expose()).await?;
            diesel::sql_query(
                "INSERT INTO tombstone_keys (id, org_id, sealed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            )
            .bind::<SqlUuid, _>(id)
            .bind::<SqlUuid, _>(org)
            .bind::<Binary, _>(sealed)
            .execute(connection)
            .await?;
        }
        Ok::<_, CountedError>(())
    });
    added.await.map_err(|error| match error {
        CountedError::Query(error) => error.into(),
        error @ (CountedError::Exhausted | CountedError::Seal(_)) => {
            tracing::error!(%org, %error, "the key of tombstones can't be sealed");
            Error::refused(ErrorReason::Internal)
        }
    })
}

#[derive(QueryableByName)]
struct Org {
    #[diesel(sql_type = SqlUuid)]
    org_id: Uuid,
}

/// Organisations that have tombstones and no key of them.
pub async fn lacking(connection: &mut AsyncPgConnection) -> Result<Vec<Uuid>> {
    let sql = "SELECT id AS org_id FROM orgs WHERE EXISTS (SELECT FROM erased WHERE erased.org_id = orgs.id) \
        AND NOT EXISTS (SELECT FROM tombstone_keys WHERE tombstone_keys.org_id = orgs.id)";
    let orgs: Vec<Org> = diesel::sql_query(sql).load(connection).await?;
    Ok(orgs.into_iter().map(|org| org.org_id).collect())
}
