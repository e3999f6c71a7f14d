//! The run with `--compare`: does Redis say what PostgreSQL knows? Reads only; memory is bounded by a page of
//! rows.

mod expected;
mod orphans;
mod redis_values;
mod report;

use std::time::Duration;

use bb8_redis::redis::{AsyncConnectionConfig, RedisError, aio::MultiplexedConnection};
use diesel_async::AsyncPgConnection;
use migrations::{
    database::Database,
    migrate::{self, MigrateError},
};
use serve::EnvError;

use self::{expected::Walk, redis_values::Verdict, report::Report};
use crate::{clock, error::Error, storage::redis::address::RedisAddress};

/// Looks at a page that differs, the first included: both stores are read one after the other, and the
/// service goes on. Keys that are being written are not waited for: they are not served, and a writer that
/// died leaves its marker for 30 s.
const TRIES: u32 = 5;
/// Pause between these looks. A write is done within a few milliseconds.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest the connection to Redis may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The two stores, each over one connection.
struct Stores {
    postgres: AsyncPgConnection,
    redis: MultiplexedConnection,
}

/// Reasons for which a comparison came to no end.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A variable is missing or malformed.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// The schema is not the newest, or can't be asked for.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// PostgreSQL can't be reached.
    #[error("DATABASE_URL: {0}")]
    Postgres(#[from] diesel::ConnectionError),
    /// Redis can't be reached, or went away.
    #[error("REDIS_URL: {0}")]
    Redis(#[from] RedisError),
    /// A store refused a statement.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Compares everything, prints what differs and a table of counts, and says whether nothing differs.
pub async fn compare(database: &Database, redis: &RedisAddress) -> Result<bool, CompareError> {
    migrate::check(database).await?;
    let mut stores = Stores {
        postgres: database.connect().await?,
        redis: redis.connect(AsyncConnectionConfig::new(), CONNECT_TIMEOUT).await?,
    };
    let mut report = Report::default();
    for walk in [Walk::Identities, Walk::Links, Walk::Consent] {
        let mut after = None;
        loop {
            let next = compare_page(&mut stores, walk, after.as_ref(), &mut report).await?;
            report.progress();
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    orphans::find(&mut stores, &mut report).await?;
    report.print();
    Ok(report.is_clean())
}

/// Compares one page, and answers where the next begins.
async fn compare_page(
    stores: &mut Stores,
    walk: Walk,
    after: Option<&expected::Place>,
    report: &mut Report,
) -> Result<Option<expected::Place>, CompareError> {
    let mut tries = 1;
    loop {
        let now = clock::now();
        let page = expected::page(&mut stores.postgres, walk, after, now).await?;
        let verdicts = redis_values::compare(&mut stores.redis, &page.entries, now).await?;
        if tries == TRIES || !verdicts.contains(&Verdict::Different) {
            for (entry, verdict) in page.entries.iter().zip(verdicts) {
                report.count(&entry.key.name, verdict);
            }
            return Ok(page.next);
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes the kind of a serving key from its name: what that begins with.
fn kind(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}
