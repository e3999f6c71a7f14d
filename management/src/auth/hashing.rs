//! Hashing of passwords off the async threads, a few at a time, with a bounded queue before it. However many
//! log in, the memory and the processors that it takes are bounded, and the rest of the service goes on.

use std::{num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use tokio::{
    sync::{Semaphore, TryAcquireError},
    task::spawn_blocking,
    time::timeout,
};

use crate::api::error::{Code, Result};

/// Most hashes that run at once, of 19 MiB each; no more than there are processors.
const MAX_RUNNING: usize = 8;
/// Most hashes that wait for their turn.
const MAX_WAITING: usize = 32;
/// Longest time that a hash waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// Permits to hash, and to wait for that.
#[derive(Debug)]
pub struct Hashing {
    running: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Hashing {
    fn default() -> Self {
        let running = available_parallelism().map_or(1, NonZero::get).min(MAX_RUNNING);
        Self { running: Arc::new(Semaphore::new(running)), waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl Hashing {
    /// Runs `work` when its turn has come, and gives what it returns; `OVERLOADED` where that takes too long.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = match Arc::clone(&self.running).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(Code::Unavailable.into()),
            Err(TryAcquireError::NoPermits) => {
                let _place = self.waiting.try_acquire().map_err(|_| Code::Overloaded)?;
                let turn = timeout(MAX_WAIT, Arc::clone(&self.running).acquire_owned()).await;
                turn.map_err(|_| Code::Overloaded)?.map_err(|_| Code::Unavailable)?
            }
        };
        let worked = spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        // It panicked, which the panic hook has logged.
        worked.await.map_err(|_| Code::Internal.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::{FutureExt, future::join_all};

    use super::*;

    #[tokio::test]
    async fn some_run_some_wait_and_the_rest_is_refused_at_once() {
        let hashing = Hashing { running: Arc::new(Semaphore::new(1)), waiting: Semaphore::new(2) };
        let (release, held) = mpsc::channel::<()>();
        let mut first = Box::pin(hashing.run(move || held.recv().is_ok()));
        assert!(first.as_mut().now_or_never().is_none(), "it runs");
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(hashing.run(|| true))).collect();
        assert!(waiting.iter_mut().all(|one| one.as_mut().now_or_never().is_none()), "they wait");
        let refused = hashing.run(|| true).now_or_never().unwrap();
        assert_eq!(refused.unwrap_err().code(), Code::Overloaded);
        release.send(()).unwrap();
        assert!(first.await.unwrap());
        assert!(join_all(waiting).await.into_iter().all(|done| done.unwrap()));
        assert!(hashing.run(|| true).await.unwrap(), "every permit is back");
    }
}
