//! Weight of an identity in both stores: by itself, and with an ID of each of 15 vendors.

use anyhow::{Context, Result};
use bb8_redis::redis;
use harness::{database::TestDatabase, redis::RedisServer, seed::Customer, system::now};

use crate::{
    report::{Report, Size},
    seed,
    visitors::{CONSENT, Population, fifteen_vendors},
};

/// Identities that are weighed; a sample, as a weight does not change with their number.
const SAMPLE: u64 = 50_000;

/// Weighs both in stores of their own.
pub async fn measure(report: &mut Report) -> Result<()> {
    for (what, vendors) in [
        ("canonical ID, one browser, consent", Vec::new()),
        ("… and 15 vendor IDs with their schedule", fifteen_vendors()),
    ] {
        let (database, server) = tokio::try_join!(TestDatabase::create(), RedisServer::start())?;
        let key = "0".repeat(64);
        let connection = &mut database.connection().await?;
        let org = Customer::seed(connection, &key, "explicit", "shop.example.com").await?.org_id;
        let (rows, memory) = (rows(&database).await?, memory(&server).await?);
        let population =
            Population { org, numbers: 0..SAMPLE, vendors, consent: CONSENT.to_owned(), now: now() };
        seed::seed(&population, &database.url, &server.url()).await?;
        let each = |before: f64, after: f64| (after - before) / SAMPLE as f64;
        report.add_size(Size {
            what,
            redis: each(memory, self::memory(&server).await?),
            postgres: each(rows, self::rows(&database).await?),
        });
    }
    Ok(())
}

/// Bytes of the visitors' tables with their indexes.
async fn rows(database: &TestDatabase) -> Result<f64> {
    let tables = "('canonicals'), ('links'), ('consent'), ('vendor_ids'), ('sync_attempts')";
    let sql =
        format!("SELECT sum(pg_total_relation_size(name::regclass)) FROM (VALUES {tables}) AS t (name)");
    Ok(database.text(&sql).await.parse()?)
}

/// Bytes that Redis says it uses.
async fn memory(server: &RedisServer) -> Result<f64> {
    let mut connection = server.connection().await?;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await?;
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).context("used_memory")?;
    Ok(used.trim().parse()?)
}
