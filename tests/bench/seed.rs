//! Stores visitors in bulk: in PostgreSQL by many rows a statement, in Redis by long pipelines of what the product
//! itself would write.

use anyhow::Result;
use bb8_redis::redis::{Pipeline, aio::MultiplexedConnection};
use identity_service::{
    storage::{
        cache_entries,
        redis::protocol::{Entry, READY, VERSION_FIELD, Value},
    },
    vendor_ids::{entries, schedules},
};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::{
    redis::connect,
    visitors::{Population, anonymous_id, canonical},
};

/// Visitors that one statement inserts.
const ROWS: u64 = 10_000;
/// Visitors that one pipeline writes.
const PIPELINE: u64 = 200;

/// Stores a population in both, at the same time. Says how far it is.
pub async fn seed(population: &Population, postgres: &str, redis: &str) -> Result<()> {
    let Population { numbers, vendors, .. } = population;
    if numbers.is_empty() {
        return Ok(());
    }
    eprintln!("  storing visitors {} to {}, {} vendors each …", numbers.start, numbers.end, vendors.len());
    let (rows, keys) = (population.clone(), population.clone());
    let (postgres, redis) = (postgres.to_owned(), redis.to_owned());
    let rows = tokio::spawn(async move { in_postgres(&rows, &postgres).await });
    let keys = tokio::spawn(async move { in_redis(&keys, &redis).await });
    rows.await??;
    keys.await?
}

async fn in_postgres(population: &Population, url: &str) -> Result<()> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    // Without the checks of foreign keys, which hold here by construction.
    client.batch_execute("SET session_replication_role = replica; SET synchronous_commit = off").await?;
    let columns = Columns::of(&client).await?;
    for start in population.numbers.clone().step_by(ROWS as usize) {
        let end = (start + ROWS).min(population.numbers.end);
        insert(&mut client, &columns, population, start, end).await?;
        progress(population, start, end, "PostgreSQL");
    }
    client.batch_execute("VACUUM (ANALYZE) canonicals, links, consent, vendor_ids, sync_attempts").await?;
    Ok(client.batch_execute("CHECKPOINT").await?)
}

/// Columns that say whose a row is, and their values: a base may be from before migration 8, which named them anew.
struct Columns {
    /// The way of a link.
    link: (&'static str, &'static str),
    /// The browser that brought a vendor ID.
    vendor_id: &'static str,
    /// The browser of a schedule, with the comma before it.
    attempt: (&'static str, &'static str),
}

impl Columns {
    async fn of(client: &Client) -> Result<Self> {
        let ways =
            "SELECT FROM information_schema.columns WHERE table_name = 'links' AND column_name = 'via'";
        Ok(match client.query_opt(ways, &[]).await? {
            Some(_) => {
                Self { link: ("via", "'own'"), vendor_id: "owner", attempt: (", anonymous_id", ", browser") }
            }
            None => Self { link: ("verified", "true"), vendor_id: "anonymous_id", attempt: ("", "") },
        })
    }
}

async fn insert(
    client: &mut Client,
    columns: &Columns,
    population: &Population,
    start: u64,
    end: u64,
) -> Result<()> {
    let Population { org, vendors, consent, now, .. } = population;
    let browsers: Vec<String> = (start..end).map(anonymous_id).collect();
    let canonicals: Vec<Uuid> = (start..end).map(canonical).collect();
    let names: Vec<&str> = vendors.iter().map(|(name, _)| name.as_str()).collect();
    let fields: Vec<&str> = vendors.iter().map(|(_, field)| field.as_str()).collect();
    let seconds = now.unix_timestamp() as f64;
    let transaction = client.transaction().await?;
    let insert = "INSERT INTO canonicals (org_id, id) SELECT $1, unnest($2::uuid[])";
    transaction.execute(insert, &[org, &canonicals]).await?;
    let (way, own) = columns.link;
    let insert = format!(
        "INSERT INTO links (org_id, canonical_id, kind, value, {way}) \
         SELECT $1, id, 0, value, {own} FROM unnest($2::uuid[], $3::text[]) AS one (id, value)"
    );
    transaction.execute(&insert, &[org, &canonicals, &browsers]).await?;
    let insert = "INSERT INTO consent (org_id, anonymous_id, signals, updated_at) \
        SELECT $1, unnest($2::text[]), $3, to_timestamp($4)";
    transaction.execute(insert, &[org, &browsers, &consent, &seconds]).await?;
    let owner = columns.vendor_id;
    let insert = format!(
        "INSERT INTO vendor_ids (org_id, canonical_id, field, value, source, collected_at, expires_at, {owner}) \
         SELECT $1, id, field, field || '-' || id, 'sync', to_timestamp($5), \
             to_timestamp($5) + interval '90 days', browser \
         FROM unnest($2::uuid[], $3::text[]) AS one (id, browser), unnest($4::text[]) AS field"
    );
    transaction.execute(&insert, &[org, &canonicals, &browsers, &fields, &seconds]).await?;
    let (column, value) = columns.attempt;
    let insert = format!(
        "INSERT INTO sync_attempts (org_id, canonical_id, vendor, last_synced, ttl_days, outcome, attempts, \
             next_at{column}) \
         SELECT $1, id, vendor, to_timestamp($5), 90, 'stored', 0, to_timestamp($5) + interval '90 days'{value} \
         FROM unnest($2::uuid[], $3::text[]) AS one (id, browser), unnest($4::text[]) AS vendor"
    );
    transaction.execute(&insert, &[org, &canonicals, &browsers, &names, &seconds]).await?;
    Ok(transaction.commit().await?)
}

async fn in_redis(population: &Population, url: &str) -> Result<()> {
    let mut connection = connect(url).await?;
    for start in population.numbers.clone().step_by(PIPELINE as usize) {
        let end = (start + PIPELINE).min(population.numbers.end);
        put(&mut connection, population, start, end).await?;
        progress(population, start, end, "Redis");
    }
    Ok(())
}

async fn put(
    connection: &mut MultiplexedConnection,
    population: &Population,
    start: u64,
    end: u64,
) -> Result<()> {
    let (org, now) = (population.org, population.now);
    let mut pipe = Pipeline::new();
    for number in start..end {
        let (browser, canonical) = (Population::browser(number), canonical(number));
        let (consent, known) = (population.consent(number), population.known(number));
        for entry in [
            cache_entries::canonical(org, &browser, Some(canonical)),
            cache_entries::consent(org, &browser.value, Some(&consent)),
            schedules::entry(org, canonical, &population.attempts(number), &known.ties),
            entries::vendor_ids_entry(org, canonical, &known, Some(&consent), now),
            entries::identity_entry(org, &browser.value, &known, now),
        ] {
            write(&mut pipe, &entry);
        }
    }
    Ok(pipe.query_async(connection).await?)
}

/// The plain commands that leave what the product's scripts leave.
fn write(pipe: &mut Pipeline, Entry { key, value, ttl_ms }: &Entry) {
    match value {
        Value::Nothing => {}
        Value::Text(text) => {
            pipe.cmd("SET").arg(&key.name).arg(text).arg("PX").arg(ttl_ms).ignore();
        }
        Value::Hash(fields) => {
            let command = pipe.cmd("HSET").arg(&key.name).arg(VERSION_FIELD).arg(READY);
            for (field, value) in fields {
                command.arg(field).arg(value);
            }
            command.ignore().cmd("PEXPIRE").arg(&key.name).arg(ttl_ms).ignore();
        }
    }
}

/// Prints a line for each quarter of a large population.
fn progress(population: &Population, start: u64, end: u64, store: &str) {
    let quarter = (population.numbers.end - population.numbers.start) / 4;
    let at = |number: u64| (number - population.numbers.start) / quarter.max(1);
    if quarter >= ROWS && at(end) > at(start) {
        eprintln!("    {store}: {end}");
    }
}
