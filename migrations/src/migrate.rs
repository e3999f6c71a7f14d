//! Applying the migrations. Binaries do it on request (`--migrate`), never silently.

use std::collections::BTreeMap;

use diesel::{
    QueryableByName,
    migration::MigrationVersion,
    sql_query,
    sql_types::{Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use uuid::Uuid;

use crate::database::Database;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("sql");

/// Reason for which the schema could not be brought to, or compared with, this binary's.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database can't be reached or refuses the login. The text has no password.
    #[error("DATABASE_URL: can't connect: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// A migration, or the table that records them, failed.
    #[error("migration failed: {0}")]
    Migration(String),
    /// The collect hosts can't be read.
    #[error("migration failed: {0}")]
    Query(#[from] diesel::result::Error),
    /// The database lacks migrations that this binary needs.
    #[error("the database lacks migrations ({0}); run with --migrate first")]
    Pending(String),
}

/// Applies what is missing, in order, and returns a line for each, and for each collect host that went because an
/// older claim is another organisation's.
///
/// Needs a multi-threaded tokio runtime.
pub async fn run(database: &Database) -> Result<Vec<String>, MigrateError> {
    let mut connection = database.connect().await?;
    let mut hosts = collect_hosts(&mut connection).await?;
    let mut harness = AsyncMigrationHarness::new(connection);
    let applied = harness.run_pending_migrations(MIGRATIONS).map_err(failed)?;
    let mut lines: Vec<String> = applied.iter().map(|migration| format!("applied {migration}")).collect();
    let left = collect_hosts(&mut harness.into_inner()).await?;
    hosts.retain(|id, _| !left.contains_key(id));
    lines.extend(hosts.values().map(|host| format!("removed {host}: it is another organisation's")));
    Ok(lines)
}

/// Collect hosts of all organisations by ID, as people are told of them; none in an empty database.
async fn collect_hosts(connection: &mut AsyncPgConnection) -> Result<BTreeMap<Uuid, String>, MigrateError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
        #[diesel(sql_type = Text)]
        told: String,
    }
    #[derive(QueryableByName)]
    struct Tables {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        are_there: bool,
    }
    let tables = sql_query("SELECT to_regclass('collect_hosts') IS NOT NULL AS are_there");
    if !tables.get_result::<Tables>(connection).await?.are_there {
        return Ok(BTreeMap::new());
    }
    let hosts = sql_query(
        "SELECT id, format('the collect host %s of source %s, organisation %s', url, source_id, org_id) AS told \
         FROM collect_hosts",
    );
    let rows: Vec<Row> = hosts.load(connection).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.told)).collect())
}

/// Takes every migration back, newest first.
///
/// Needs a multi-threaded tokio runtime.
pub async fn revert_all(database: &Database) -> Result<Vec<String>, MigrateError> {
    let mut harness = harness(database).await?;
    let reverted = harness.revert_all_migrations(MIGRATIONS).map_err(failed)?;
    Ok(reverted.iter().map(ToString::to_string).collect())
}

/// Takes back every migration that came after `version`, newest first.
///
/// Needs a multi-threaded tokio runtime.
pub async fn revert_to(database: &Database, version: &str) -> Result<Vec<String>, MigrateError> {
    let mut harness = harness(database).await?;
    let mut reverted = Vec::new();
    while harness
        .applied_migrations()
        .map_err(failed)?
        .iter()
        .any(|own| *own > MigrationVersion::from(version))
    {
        let last = harness.revert_last_migration(MIGRATIONS).map_err(failed)?;
        reverted.push(last.to_string());
    }
    Ok(reverted)
}

/// Refuses a database that lacks migrations. One that is ahead is accepted: expand, then contract.
pub async fn check(database: &Database) -> Result<(), MigrateError> {
    let mut harness = harness(database).await?;
    let pending = harness.pending_migrations(MIGRATIONS).map_err(failed)?;
    if pending.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = pending.iter().map(|m| m.name().to_string()).collect();
    Err(MigrateError::Pending(names.join(", ")))
}

async fn harness(database: &Database) -> Result<AsyncMigrationHarness<AsyncPgConnection>, MigrateError> {
    Ok(AsyncMigrationHarness::new(database.connect().await?))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err passes")]
fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> MigrateError {
    MigrateError::Migration(error.to_string())
}
