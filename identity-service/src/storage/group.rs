//! Grouping: requests that come while a statement runs wait together and go into the next one. Rows in a
//! statement cost PostgreSQL a tenth of rows alone (limits.md), and requests do not queue for connections.

use std::{future::Future, sync::Arc};

use proto::v1::ErrorReason;
use tokio::sync::{Mutex, mpsc};

use crate::error::{Error, Result};

/// Items a batch.
const BATCH: usize = 500;
/// Items that may wait; more are refused.
const QUEUE: usize = 4096;
/// Batches at work at once.
const WORKERS: usize = 2;

/// A queue whose items are worked on in batches.
pub struct Group<T> {
    queue: mpsc::Sender<T>,
}

impl<T> Clone for Group<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<T: Send + 'static> Group<T> {
    /// Starts the workers; they end when the last clone is gone.
    pub fn start<F>(work: impl Fn(Vec<T>) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..WORKERS {
            let (waiting, work) = (waiting.clone(), work.clone());
            tokio::spawn(async move {
                let mut batch = Vec::with_capacity(BATCH);
                loop {
                    // Held while waiting only: the next worker collects while this one's statement runs.
                    if waiting.lock().await.recv_many(&mut batch, BATCH).await == 0 {
                        return;
                    }
                    work(std::mem::take(&mut batch)).await;
                }
            });
        }
        Self { queue }
    }

    /// Adds an item; refused as OVERLOADED where too many wait.
    pub fn push(&self, item: T) -> Result<()> {
        self.queue.try_send(item).map_err(|_| Error::refused(ErrorReason::Overloaded))
    }
}
