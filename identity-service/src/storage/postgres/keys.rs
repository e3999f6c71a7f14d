//! Pipeline keys: the day of their last use, which is no setting.

use diesel::sql_types::{Array, Date as SqlDate, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use time::Date;
use uuid::Uuid;

use crate::error::Result;
use migrations::prepared::Prepared;

/// Writes down on which day keys, each with its organisation, were last used. Rows are locked one after
/// another in one order, as other cores do the same.
pub async fn used_on(connection: &mut AsyncPgConnection, keys: &[(Uuid, Uuid, Date)]) -> Result<()> {
    let column = |pick: fn(&(Uuid, Uuid, Date)) -> Uuid| keys.iter().map(pick).collect::<Vec<_>>();
    Prepared(
        diesel::sql_query(
            "WITH later AS ( \
                 SELECT own.org_id, own.id, used.day FROM pipeline_keys AS own \
                 JOIN unnest($1, $2, $3) AS used (org_id, id, day) ON own.org_id = used.org_id AND own.id = used.id \
                 WHERE own.last_used_on IS NULL OR own.last_used_on < used.day \
                 ORDER BY own.id FOR NO KEY UPDATE OF own) \
             UPDATE pipeline_keys SET last_used_on = later.day FROM later \
             WHERE pipeline_keys.org_id = later.org_id AND pipeline_keys.id = later.id",
        )
        .bind::<Array<SqlUuid>, _>(column(|key| key.0))
        .bind::<Array<SqlUuid>, _>(column(|key| key.1))
        .bind::<Array<SqlDate>, _>(keys.iter().map(|key| key.2).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}
