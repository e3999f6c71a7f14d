//! Applying the migrations. Binaries do it on request (`--migrate`), never silently.

use diesel::migration::MigrationVersion;
use diesel_async::{AsyncConnection, AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

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
    /// The database lacks migrations that this binary needs.
    #[error("the database lacks migrations ({0}); run with --migrate first")]
    Pending(String),
}

/// Applies what is missing, in order, and returns the names of what was applied.
///
/// Needs a multi-threaded tokio runtime.
pub async fn run(database_url: &str) -> Result<Vec<String>, MigrateError> {
    let mut harness = harness(database_url).await?;
    let applied = harness.run_pending_migrations(MIGRATIONS).map_err(failed)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

/// Takes every migration back, newest first.
///
/// Needs a multi-threaded tokio runtime.
pub async fn revert_all(database_url: &str) -> Result<Vec<String>, MigrateError> {
    let mut harness = harness(database_url).await?;
    let reverted = harness.revert_all_migrations(MIGRATIONS).map_err(failed)?;
    Ok(reverted.iter().map(ToString::to_string).collect())
}

/// Takes back every migration that came after `version`, newest first.
///
/// Needs a multi-threaded tokio runtime.
pub async fn revert_to(database_url: &str, version: &str) -> Result<Vec<String>, MigrateError> {
    let mut harness = harness(database_url).await?;
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
pub async fn check(database_url: &str) -> Result<(), MigrateError> {
    let mut harness = harness(database_url).await?;
    let pending = harness.pending_migrations(MIGRATIONS).map_err(failed)?;
    if pending.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = pending.iter().map(|m| m.name().to_string()).collect();
    Err(MigrateError::Pending(names.join(", ")))
}

async fn harness(database_url: &str) -> Result<AsyncMigrationHarness<AsyncPgConnection>, MigrateError> {
    Ok(AsyncMigrationHarness::new(AsyncPgConnection::establish(database_url).await?))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err passes")]
fn failed(error: Box<dyn std::error::Error + Send + Sync>) -> MigrateError {
    MigrateError::Migration(error.to_string())
}
