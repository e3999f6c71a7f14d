//! Worker on what is to be sealed anew, which runs in every management process.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use metrics::{counter, gauge};
use migrations::{pool::PgPool, sealed::SealKeys};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    super::audience::VendorOrigins,
    job,
    step::{Step, step},
};
use crate::api::error::Result;

/// Pause of an idle process before it looks for work again.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// Longest time of a batch: PostgreSQL may take a statement, and never answer.
const BATCH_DEADLINE: Duration = Duration::from_secs(10);
/// Pause of a process after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Question to the core for the origins of its vendors; none where it doesn't answer.
pub type AskOrigins = Arc<dyn Fn() -> BoxFuture<'static, VendorOrigins> + Send + Sync>;

/// Works until `stop`; a batch that is begun is finished.
pub async fn work_until(postgres: PgPool, keys: Arc<SealKeys>, ask: AskOrigins, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pause = match timeout(BATCH_DEADLINE, work(&postgres, &keys, &ask)).await {
            Ok(Ok(Some(step))) if !step.waits => continue,
            Ok(Ok(_)) => IDLE_PAUSE,
            // It was logged where it was met; what was not committed is done again.
            Ok(Err(_)) | Err(_) => FAILURE_PAUSE,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn work(postgres: &PgPool, keys: &SealKeys, ask: &AskOrigins) -> Result<Option<Step>> {
    if !job::is_any(&mut *postgres.get().await?, keys).await? {
        return Ok(None);
    }
    // Before a connection is held, and only where there is work.
    let vendors = ask().await;
    let mut connection = postgres.get().await?;
    let Some(step) = step(&mut connection, keys, &vendors).await? else { return Ok(None) };
    for value in &step.unreadable {
        let (table, row, key_id) = (value.column.table, value.row, value.key_id.as_str());
        tracing::error!(table, %row, key_id, "a sealed value can't be opened, and is left");
    }
    let failed = u64::try_from(step.unreadable.len()).unwrap_or(u64::MAX);
    counter!("datafly_reencrypt_unreadable_total").increment(failed);
    let job = &step.job;
    let left = if job.finished_at.is_some() { 0 } else { (job.total - job.done - job.failed).max(0) };
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    gauge!("datafly_reencrypt_left").set(left as f64);
    if job.finished_at.is_some() {
        tracing::info!(org = %job.org_id, done = job.done, failed = job.failed, "everything is sealed with the current key");
    }
    Ok(Some(step))
}
