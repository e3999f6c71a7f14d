//! `management re-encrypt`: seals everything of all organisations, for the operator, who may then remove the
//! previous key.

use std::time::{Duration, Instant};

use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use migrations::{
    database::Database,
    schema::{orgs, reencryptions},
    sealed::{CountedError, SealKeys},
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    super::audience::VendorOrigins,
    job::{self, Job, Takeover},
    step::step,
};

/// Shortest time between two lines about progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Pause while other processes work on all that is left.
const OTHERS_PAUSE: Duration = Duration::from_millis(100);

/// Reasons why not everything is sealed with the current key.
#[derive(Debug, thiserror::Error)]
pub enum ReencryptError {
    /// The database can not be reached.
    #[error("DATABASE_URL: can't connect: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// A statement failed, or the key seals no more. Run again, it goes on.
    #[error("not finished: {0}")]
    Step(#[from] CountedError),
    /// Values can't be opened: they were listed, and nothing was done to them.
    #[error("{0} values can't be opened with the configured keys")]
    Unreadable(i64),
}

impl From<diesel::result::Error> for ReencryptError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Step(error.into())
    }
}

/// Seals everything with the current key, telling on standard output how far it is. Other processes may help.
pub async fn run(
    database: &Database,
    keys: &SealKeys,
    vendors: &VendorOrigins,
) -> Result<(), ReencryptError> {
    let mut connection = database.connect().await?;
    let started = begin_all(&mut connection, keys).await?;
    println!("{} organisations have values of other keys", started.len());
    let mut told = Instant::now();
    loop {
        match step(&mut connection, keys, vendors).await? {
            Some(step) => {
                for value in &step.unreadable {
                    let (table, row, key) = (value.column.table, value.row, &value.key_id);
                    eprintln!("{table} {row}: can't be opened; sealed with key {key}");
                }
                if step.job.finished_at.is_some() || told.elapsed() >= REPORT_INTERVAL {
                    tell(&step.job);
                    told = Instant::now();
                }
                if step.waits {
                    sleep(OTHERS_PAUSE).await;
                }
            }
            None if unfinished(&mut connection, keys, &started).await? => sleep(OTHERS_PAUSE).await,
            None => break,
        }
    }
    let ours = reencryptions::table.filter(reencryptions::org_id.eq_any(&started));
    let jobs: Vec<(i64, i64)> =
        ours.select((reencryptions::done, reencryptions::failed)).load(&mut connection).await?;
    let (done, failed) = jobs.iter().fold((0, 0), |sum, job| (sum.0 + job.0, sum.1 + job.1));
    println!(
        "finished: {done} values sealed with key {}, {failed} unreadable",
        hex::encode(keys.current().id())
    );
    if failed > 0 { Err(ReencryptError::Unreadable(failed)) } else { Ok(()) }
}

/// Begins where something is to be done, and gives those organisations.
async fn begin_all(connection: &mut AsyncPgConnection, keys: &SealKeys) -> Result<Vec<Uuid>, ReencryptError> {
    let all: Vec<Uuid> =
        orgs::table.filter(orgs::test_of.is_null()).order(orgs::id).select(orgs::id).load(connection).await?;
    let mut started = Vec::new();
    for org in all {
        let both = job::data_orgs(connection, org).await?;
        let key = keys.current().id();
        let left = connection.transaction(async |connection| job::left(connection, &both, key).await).await?;
        if left > 0 {
            job::begin(connection, keys, org, Takeover::Any).await?;
            started.push(org);
        }
    }
    Ok(started)
}

async fn unfinished(
    connection: &mut AsyncPgConnection,
    keys: &SealKeys,
    started: &[Uuid],
) -> Result<bool, ReencryptError> {
    let ours = reencryptions::table
        .filter(reencryptions::org_id.eq_any(started))
        .filter(reencryptions::key_id.eq(keys.current().id().to_vec()))
        .filter(reencryptions::finished_at.is_null());
    Ok(ours.count().get_result::<i64>(connection).await? > 0)
}

fn tell(job: &Job) {
    let Job { org_id, done, total, failed, .. } = job;
    println!("{org_id}: {done} of {total} values, {failed} unreadable");
}
