//! Leases: which destinations are this process's, and the workers that deliver to them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use event_log::Position;
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    destination::Destination,
    shared::Shared,
    storage::{StorageError, Taken},
    worker::Worker,
};

/// Period of looks for destinations that nobody has.
const TAKE_PERIOD: Duration = Duration::from_secs(1);
/// Period of looks at how far the log has come.
const HEADS_PERIOD: Duration = Duration::from_millis(100);
/// Period of giving back what is too much, as others have come.
const BALANCE_PERIOD: Duration = Duration::from_secs(5);

/// The positions that sources have come to.
type Heads = HashMap<Uuid, Position>;

/// The workers of this process.
pub struct Workers {
    shared: Arc<Shared>,
    own: Mutex<HashMap<Uuid, Own>>,
    news: watch::Sender<Heads>,
}

struct Own {
    source: Uuid,
    stop: CancellationToken,
    worker: JoinHandle<()>,
}

impl Workers {
    /// No workers yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, own: Mutex::default(), news: watch::Sender::new(Heads::new()) }
    }

    /// Takes destinations and has them delivered to until `stop`; then waits for the workers, which give them back.
    pub async fn run_until(&self, stop: CancellationToken) {
        let mut ticks = interval(TAKE_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut balanced = Instant::now();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.shared.storage.appear().await {
                tracing::debug!(%error, "others do not know that this process is there");
            }
            if let Err(error) = self.take().await {
                serve::warn_on_change!(WARN, %error, "destinations can't be taken");
            }
            if balanced.elapsed() >= BALANCE_PERIOD {
                balanced = Instant::now();
                if let Err(error) = self.balance().await {
                    tracing::debug!(%error, "the share of this process is not known");
                }
            }
        }
        if let Err(error) = self.shared.storage.leave().await {
            tracing::debug!(%error, "others take this process for one that is there, for some seconds");
        }
        let own = std::mem::take(&mut *self.own.lock().await);
        for one in own.values() {
            one.stop.cancel();
        }
        for one in own.into_values() {
            let _ = one.worker.await;
        }
    }

    async fn take(&self) -> Result<(), StorageError> {
        let mut own = self.own.lock().await;
        own.retain(|_, one| !one.worker.is_finished());
        for taken in self.shared.storage.take().await? {
            if let Some(one) = self.begin(taken.clone()).await? {
                own.insert(taken.destination_id, one);
            }
        }
        Ok(())
    }

    async fn begin(&self, taken: Taken) -> Result<Option<Own>, StorageError> {
        let row = self.shared.storage.destination(taken.destination_id).await?;
        let Some(destination) = row.and_then(|row| Destination::of(row, &self.shared.keys)) else {
            self.shared.storage.release(&taken).await?;
            return Ok(None);
        };
        let source = destination.source;
        tracing::info!(destination = %destination.id, vendor = destination.vendor, "a destination is delivered to");
        let worker = Worker::new(self.shared.clone(), taken, destination).await?;
        let stop = CancellationToken::new();
        let worker = tokio::spawn(worker.run(self.news.subscribe(), stop.clone()));
        Ok(Some(Own { source, stop, worker }))
    }

    /// Gives back as many destinations as are too many.
    async fn balance(&self) -> Result<(), StorageError> {
        let surplus = usize::try_from(self.shared.storage.surplus().await?).unwrap_or_default();
        for one in self.own.lock().await.values().take(surplus) {
            one.stop.cancel();
        }
        Ok(())
    }

    /// Tells the workers how far the log has come, until `stop`.
    pub async fn watch_heads_until(&self, stop: CancellationToken) {
        let mut ticks = interval(HEADS_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let sources: BTreeSet<Uuid> = self.own.lock().await.values().map(|one| one.source).collect();
            if sources.is_empty() {
                continue;
            }
            let sources: Vec<Uuid> = sources.into_iter().collect();
            let Ok(heads) = self.shared.log.heads(&sources).await else { continue };
            let heads: Heads = heads.into_iter().map(|head| (head.source, head.position)).collect();
            self.news.send_if_modified(|known| {
                let is_news = *known != heads;
                if is_news {
                    *known = heads;
                }
                is_news
            });
        }
    }
}
