//! A migrated database for each test, copied from a template that is made once.

use std::{fs, path::Path, thread};

use anyhow::{Context, Result, ensure};
use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Bool, Text},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use migrations::{database::Database, tls::StoreTls};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use url::Url;
use uuid::Uuid;

use crate::{postgres::PostgresServer, process, system::env};

/// Holds other processes off while one makes the template. Any number that nobody else uses.
const TEMPLATE_LOCK: i64 = 0x5147_4e41_4c49_4431;

/// A database that is dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: String,
    /// URL at which clients reach the database.
    pub url: String,
}

impl TestDatabase {
    /// Makes a database with the whole schema and no data.
    pub async fn create() -> Result<Self> {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_try_init(template).await?;
        Self::of(server_url()?, &format!("TEMPLATE {template}")).await
    }

    /// Makes such a database on a server of the test's own.
    pub async fn on(server: &PostgresServer) -> Result<Self> {
        let database = Self::of(server.url.clone(), "TEMPLATE template0").await?;
        migrate(&database.url).await?;
        Ok(database)
    }

    /// Follows the database to a server that has taken over.
    pub fn move_to(&mut self, server: &PostgresServer) -> Result<()> {
        self.server.clone_from(&server.url);
        self.url = url_of(&self.server, &self.name)?;
        Ok(())
    }

    /// Makes a database without a schema.
    pub async fn empty() -> Result<Self> {
        Self::of(server_url()?, "TEMPLATE template0").await
    }

    async fn of(server: String, clause: &str) -> Result<Self> {
        let name = format!("it_{}", Uuid::new_v4().simple());
        let mut connection = AsyncPgConnection::establish(&server).await?;
        connection.batch_execute(&format!("CREATE DATABASE {name} {clause}")).await?;
        Ok(Self { url: url_of(&server, &name)?, name, server })
    }

    /// The database as migrations and pools take it.
    pub fn address(&self) -> Database {
        Database::parse(&self.url.clone().into(), &StoreTls::default()).unwrap()
    }

    /// Connects to the database, past any proxy.
    pub async fn connection(&self) -> Result<AsyncPgConnection> {
        Ok(AsyncPgConnection::establish(&self.url).await?)
    }

    /// Runs one or more statements.
    pub async fn execute(&self, sql: &str) {
        let mut connection = self.connection().await.unwrap();
        connection.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The one text that a query answers with.
    pub async fn text(&self, sql: &str) -> String {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            value: String,
        }
        let sql = format!("SELECT coalesce(({sql})::text, '') AS value");
        let mut connection = self.connection().await.unwrap();
        let row: Result<Row, _> = sql_query(&sql).get_result(&mut connection).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error}")).value
    }

    /// Counts the rows of a table that meet a condition.
    pub async fn count(&self, table: &str, condition: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            value: i64,
        }
        let sql = format!("SELECT count(*) AS value FROM {table} WHERE {condition}");
        let mut connection = self.connection().await.unwrap();
        let row: Result<Row, _> = sql_query(&sql).get_result(&mut connection).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error}")).value
    }
}

impl Drop for TestDatabase {
    /// Drops the database on a thread of its own, as the test's runtime may be gone or busy.
    fn drop(&mut self) {
        let (name, server) = (self.name.clone(), self.server.clone());
        let dropping = thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut server = AsyncPgConnection::establish(&server).await?;
                Ok(server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?)
            })
        });
        // A server that is gone has taken the database with it.
        let _ = dropping.join();
    }
}

/// The URL of the tests' server, which `DATABASE_URL` names.
pub fn server_url() -> Result<String> {
    env("DATABASE_URL").context(
        "DATABASE_URL is not set: run `make test`, or `target/debug/stores run -- cargo test …` for a few tests",
    )
}

fn url_of(server: &str, database: &str) -> Result<String> {
    let mut url = Url::parse(server)?;
    url.set_path(database);
    Ok(url.into())
}

/// Makes the template unless another test process has. Its name carries the migrations' content, so a server
/// that outlives a run never serves an old schema.
async fn template() -> Result<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        done: bool,
    }
    let name = format!("template_{}", hex::encode(fingerprint()?));
    let mut server = AsyncPgConnection::establish(&server_url()?).await?;
    server.batch_execute(&format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await?;
    let query =
        format!("SELECT EXISTS (SELECT FROM pg_database WHERE datname = '{name}' AND datistemplate) AS done");
    if !sql_query(query).get_result::<Row>(&mut server).await?.done {
        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        server.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await?;
        migrate(&url_of(&server_url()?, &name)?).await?;
        let done = format!("ALTER DATABASE {name} WITH IS_TEMPLATE true ALLOW_CONNECTIONS false");
        server.batch_execute(&done).await?;
    }
    // The lock goes with the connection.
    Ok(name)
}

async fn migrate(url: &str) -> Result<()> {
    let ended = process::run("identity-service", &["--migrate"], &[("DATABASE_URL", url)], "").await?;
    ensure!(ended.status.success(), "identity-service --migrate failed: {}", ended.text());
    Ok(())
}

/// First bytes of a hash over every migration.
fn fingerprint() -> Result<[u8; 8]> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sql"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file)?);
    }
    Ok(std::array::from_fn(|at| hash.clone().finalize()[at]))
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { collect(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
