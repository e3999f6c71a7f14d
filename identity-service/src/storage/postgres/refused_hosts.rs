//! Hosts by which keys were refused: the last one of each source, which is no setting.

use diesel::sql_types::{Array, Date as SqlDate, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use time::Date;
use uuid::Uuid;

use crate::error::Result;
use migrations::prepared::Prepared;

/// Writes down hosts and days of sources, each with its organisation. Rows are locked one after another in one order,
/// as other cores do the same; a source that is gone is left out.
pub async fn write(connection: &mut AsyncPgConnection, hosts: &[(Uuid, Uuid, &str, Date)]) -> Result<()> {
    Prepared(
        diesel::sql_query(
            "INSERT INTO refused_hosts (org_id, source_id, host, refused_on) \
             SELECT seen.org_id, seen.id, seen.host, seen.day FROM sources AS own \
             JOIN unnest($1, $2, $3, $4) AS seen (org_id, id, host, day) \
                 ON own.org_id = seen.org_id AND own.id = seen.id \
             ORDER BY own.id \
             ON CONFLICT (source_id) DO UPDATE SET host = EXCLUDED.host, refused_on = EXCLUDED.refused_on",
        )
        .bind::<Array<SqlUuid>, _>(hosts.iter().map(|row| row.0).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(hosts.iter().map(|row| row.1).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(hosts.iter().map(|row| row.2).collect::<Vec<_>>())
        .bind::<Array<SqlDate>, _>(hosts.iter().map(|row| row.3).collect::<Vec<_>>()),
    )
    .execute(connection)
    .await?;
    Ok(())
}
