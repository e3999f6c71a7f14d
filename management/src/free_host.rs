//! `management free-host`: takes a collect host from the organisation that has it, for the operator, who knows whose it
//! is: whoever claims a host first has it, its owner or not.

use diesel::{ExpressionMethods, QueryDsl, delete, insert_into};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::{
    database::Database,
    schema::{audit_log, collect_hosts},
};
use serde_json::json;
use serve::Authority;
use uuid::Uuid;

/// The collect host to free.
#[derive(Debug, clap::Args)]
pub struct HostToFree {
    /// The host, `collect.example.com` or with its port.
    host: String,
}

/// Reasons why no host was freed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum FreeHostError {
    /// The text does not have the form of a host.
    #[error("{0:?} is not a host: give it as collect.example.com or collect.example.com:8443")]
    Host(String),
    /// No source collects there.
    #[error("{0} is nobody's collect host")]
    Nobody(String),
    /// The database can not be reached.
    #[error("DATABASE_URL: can't connect: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// The database refused a statement.
    #[error("the database refused: {0}")]
    Query(#[from] diesel::result::Error),
}

/// Removes the host from every source that collects there, with a row in the audit log of each, and returns a line for
/// each. Cores refuse calls by it within a second.
pub async fn run(database: &Database, host: &HostToFree) -> Result<Vec<String>, FreeHostError> {
    let host = Authority::parse(&host.host).ok_or_else(|| FreeHostError::Host(host.host.clone()))?;
    let mut connection = database.connect().await?;
    connection
        .transaction(async |connection| {
            let own = collect_hosts::table.filter(collect_hosts::authority.eq(host.as_str()));
            let freed: Vec<(Uuid, Uuid, String)> = delete(own)
                .returning((collect_hosts::org_id, collect_hosts::source_id, collect_hosts::url))
                .get_results(connection)
                .await?;
            if freed.is_empty() {
                return Err(FreeHostError::Nobody(host.into()));
            }
            for (org, source, url) in &freed {
                note(connection, *org, *source, url).await?;
            }
            let line = |(org, source, url): &(Uuid, Uuid, String)| {
                format!("removed the collect host {url} from source {source}, organisation {org}")
            };
            Ok(freed.iter().map(line).collect())
        })
        .await
}

/// Tells the organisation in its audit log who took its host.
async fn note(
    connection: &mut AsyncPgConnection,
    org: Uuid,
    source: Uuid,
    url: &str,
) -> Result<(), diesel::result::Error> {
    insert_into(audit_log::table)
        .values((
            audit_log::id.eq(Uuid::now_v7()),
            audit_log::org_id.eq(org),
            audit_log::action.eq("source.host_freed"),
            audit_log::resource_type.eq("source"),
            audit_log::resource_id.eq(source.to_string()),
            audit_log::changes.eq(json!({"collect_hosts": {"old": url, "new": null}})),
            // The operator's shell has none.
            audit_log::ip.eq(""),
            audit_log::user_agent.eq("management free-host"),
        ))
        .execute(connection)
        .await
        .map(drop)
}
