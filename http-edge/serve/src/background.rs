//! Work beside the requests, which is to go on for as long as the process does.

use std::{future::Future, time::Duration};

use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::Lifecycle;

/// Pause before work that panicked begins anew.
const RESTART_DELAY: Duration = Duration::from_secs(1);

impl Lifecycle {
    /// Runs `work`, which ends when draining begins. Should it panic, that is counted and it begins anew:
    /// nobody waits for it, so nobody would miss it. `name` is the label of the metric.
    pub fn spawn_supervised<F>(
        &self,
        name: &'static str,
        work: impl Fn(CancellationToken) -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let draining = self.draining();
        tokio::spawn(async move {
            while tokio::spawn(work(draining.clone())).await.is_err_and(|error| error.is_panic()) {
                metrics::counter!("datafly_background_panics_total", "task" => name).increment(1);
                sleep(RESTART_DELAY).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn begins_anew_after_a_panic_and_ends_with_the_process() {
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let lifecycle = Lifecycle::new();
        let ended = lifecycle.spawn_supervised("test", |stop| async move {
            assert!(BEGUN.fetch_add(1, Ordering::Relaxed) > 0, "as asked for");
            stop.cancelled().await;
        });
        lifecycle.drain();
        ended.await.unwrap();
        assert_eq!(BEGUN.load(Ordering::Relaxed), 2);
    }
}
