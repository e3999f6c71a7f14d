//! Worker on what is to be sealed anew, which runs in every management process.

use std::{sync::Arc, time::Duration};

use metrics::{counter, gauge};
use migrations::{pool::PgPool, sealed::SealKeys};
use tokio_util::sync::CancellationToken;

use super::step::{Step, step};
use crate::api::error::Result;

/// Pause of an idle process before it looks for work again.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// Pause of a process after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Works until `stop`; a batch that is begun is finished.
pub async fn work_until(postgres: PgPool, keys: Arc<SealKeys>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let pause = match work(&postgres, &keys).await {
            Ok(Some(step)) if !step.waits => continue,
            Ok(_) => IDLE_PAUSE,
            // It was logged where it was met; what was not committed is done again.
            Err(_) => FAILURE_PAUSE,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn work(postgres: &PgPool, keys: &SealKeys) -> Result<Option<Step>> {
    let mut connection = postgres.get().await?;
    let Some(step) = step(&mut connection, keys).await? else { return Ok(None) };
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
