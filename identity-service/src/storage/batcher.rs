//! Grouping: requests that come while a statement runs wait together and go into the next one. A row in a
//! statement of many costs PostgreSQL a tenth of a row alone or less, and requests do not queue for
//! connections. Organisations take turns, so that one with thousands of items waiting holds up nobody else's;
//! where their items wait for locks, each has its own batches too.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use proto::v1::ErrorReason;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Most items in a batch.
const MAX_BATCH_ITEMS: usize = 500;
/// Most items of one organisation that may wait, about half a second's work; more are refused.
const MAX_QUEUED_ITEMS: usize = 4096;
/// Most items of all organisations together that may wait; more are refused.
const MAX_ALL_QUEUED_ITEMS: usize = 4 * MAX_QUEUED_ITEMS;
/// Most batches at work at once; where organisations have their own batches, most of one organisation.
const WORKERS: usize = 2;
/// Most batches of all organisations at once where each has its own: half the connections for changes.
const ALL_WORKERS: usize = 8;
/// The longest a batch waits for the one before it to end. As long as they are quick there is one at a time,
/// and what gathers meanwhile shares a statement; one that is held up holds up nobody else's.
const OVERLAP_DELAY: Duration = Duration::from_millis(20);
/// The time a batch waits for company after one that had some: callers that were answered by that one are
/// about to come again, and would else share a statement with half as many. A caller that comes alone never
/// waits.
const GATHER_DELAY: Duration = Duration::from_millis(1);

/// A queue whose items are worked on in batches.
pub struct Batcher<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Notify,
}

/// Items by organisation, first come first served within each.
struct Waiting<T> {
    items: HashMap<Uuid, VecDeque<T>>,
    /// Organisations that have items waiting, in the order of their turns.
    turns: VecDeque<Uuid>,
    total: usize,
    /// Items in the batch that was taken last, in the largest where several were taken together.
    last: usize,
    /// Batches at work of each organisation that has some, where each has its own.
    at_work: HashMap<Uuid, usize>,
}

/// A mark that a batch of one organisation is at work, until it is dropped.
struct AtWork<T> {
    shared: Arc<Shared<T>>,
    org: Uuid,
}

impl<T> Drop for AtWork<T> {
    fn drop(&mut self) {
        self.shared.waiting().end(self.org);
        self.shared.arrived.notify_one();
    }
}

impl<T> Clone for Batcher<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Send + 'static> Batcher<T> {
    /// Starts the workers, whose batches mix all organisations; they end with their runtime.
    pub fn start<F>(work: impl Fn(Vec<T>) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let shared = Arc::new(Shared::default());
        let turn = Arc::new(Semaphore::new(1));
        for _ in 0..WORKERS {
            let (shared, work, turn) = (shared.clone(), work.clone(), turn.clone());
            tokio::spawn(async move {
                loop {
                    let own = timeout(OVERLAP_DELAY, turn.acquire()).await;
                    let last = shared.waiting().last;
                    if last > 1 {
                        sleep(GATHER_DELAY).await;
                    }
                    let batch = shared.waiting().take();
                    if batch.is_empty() {
                        drop(own);
                        // Whoever came since then has left a permit here.
                        shared.arrived.notified().await;
                    } else {
                        // A defect that one batch meets must not end the storing of all others. Its requests get no
                        // answer, and the panic hook has logged it.
                        let _ = AssertUnwindSafe(work(batch)).catch_unwind().await;
                    }
                }
            });
        }
        Self { shared }
    }

    /// Starts working on batches of one organisation each, so that none waits for another's locks; ends with the
    /// runtime.
    pub fn start_apart<F>(work: impl Fn(Uuid, Vec<T>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let own = Self { shared: shared.clone() };
        tokio::spawn(async move {
            loop {
                let last = shared.waiting().last;
                if last > 1 {
                    sleep(GATHER_DELAY).await;
                }
                let batches = shared.waiting().take_apart();
                if batches.is_empty() {
                    shared.arrived.notified().await;
                    continue;
                }
                let mut working = JoinSet::new();
                for (org, batch) in batches {
                    let (at_work, work) = (AtWork { shared: shared.clone(), org }, work(org, batch));
                    working.spawn(async move {
                        work.await;
                        drop(at_work);
                    });
                }
                let all = async { while working.join_next().await.is_some() {} };
                // Those that are held up go on alone.
                let _ = timeout(OVERLAP_DELAY, all).await;
                working.detach_all();
            }
        });
        own
    }

    /// Adds an item of `org`; refused as OVERLOADED where too many wait.
    pub fn push(&self, org: Uuid, item: T) -> Result<()> {
        if !self.shared.waiting().add(org, item) {
            return Err(Error::refused(ErrorReason::Overloaded));
        }
        self.shared.arrived.notify_one();
        Ok(())
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), arrived: Notify::new() }
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        let (items, turns, at_work) = (HashMap::new(), VecDeque::new(), HashMap::new());
        Self { items, turns, total: 0, last: 0, at_work }
    }
}

impl<T> Shared<T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Waiting<T> {
    /// Adds an item, and says whether there was room.
    fn add(&mut self, org: Uuid, item: T) -> bool {
        let own = self.items.get(&org).map_or(0, VecDeque::len);
        if own >= MAX_QUEUED_ITEMS || self.total >= MAX_ALL_QUEUED_ITEMS {
            return false;
        }
        if own == 0 {
            self.turns.push_back(org);
        }
        self.items.entry(org).or_default().push_back(item);
        self.total += 1;
        true
    }

    /// Takes the next batch: one item an organisation and turn.
    fn take(&mut self) -> Vec<T> {
        let mut batch = Vec::with_capacity(self.total.min(MAX_BATCH_ITEMS));
        while batch.len() < MAX_BATCH_ITEMS {
            let Some(org) = self.turns.pop_front() else { break };
            let Some(queue) = self.items.get_mut(&org) else { continue };
            batch.extend(queue.pop_front());
            if queue.is_empty() {
                self.items.remove(&org);
            } else {
                self.turns.push_back(org);
            }
        }
        self.total -= batch.len();
        self.last = batch.len();
        batch
    }

    /// Takes the next batch of each organisation that may have one more at work.
    fn take_apart(&mut self) -> Vec<(Uuid, Vec<T>)> {
        let mut batches = Vec::new();
        let mut free = ALL_WORKERS.saturating_sub(self.at_work.values().sum());
        self.last = 0;
        for _ in 0..self.turns.len() {
            if free == 0 {
                break;
            }
            let Some(org) = self.turns.pop_front() else { break };
            let Some(queue) = self.items.get_mut(&org) else { continue };
            if self.at_work.get(&org).is_some_and(|own| *own >= WORKERS) {
                self.turns.push_back(org);
                continue;
            }
            let batch: Vec<T> = queue.drain(..queue.len().min(MAX_BATCH_ITEMS)).collect();
            if queue.is_empty() {
                self.items.remove(&org);
            } else {
                self.turns.push_back(org);
            }
            *self.at_work.entry(org).or_default() += 1;
            free -= 1;
            self.total -= batch.len();
            self.last = self.last.max(batch.len());
            batches.push((org, batch));
        }
        batches
    }

    /// Notes that a batch of `org` is done.
    fn end(&mut self, org: Uuid) {
        if let Some(own) = self.at_work.get_mut(&org) {
            *own -= 1;
            if *own == 0 {
                self.at_work.remove(&org);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_batch_that_panics_ends_no_other() {
        let batcher = Batcher::start(|batch: Vec<Option<oneshot::Sender<()>>>| async move {
            for one in batch {
                one.expect("a batch to panic at").send(()).unwrap();
            }
        });
        for _ in 0..2 * WORKERS {
            batcher.push(Uuid::nil(), None).unwrap();
            while !batcher.shared.waiting().items.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        let (answer, answered) = oneshot::channel();
        batcher.push(Uuid::nil(), Some(answer)).unwrap();
        timeout(Duration::from_secs(20), answered).await.expect("nobody is at work").unwrap();
    }

    #[test]
    fn a_flood_of_one_organisation_neither_delays_nor_displaces_another() {
        let mut waiting = Waiting::default();
        let (flood, quiet) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let taken = (0..2 * MAX_QUEUED_ITEMS).filter(|item| waiting.add(flood, *item)).count();
        assert_eq!(taken, MAX_QUEUED_ITEMS);
        assert!(waiting.add(quiet, usize::MAX));
        assert!(waiting.add(quiet, usize::MAX - 1));
        let batch = waiting.take();
        assert_eq!(batch.len(), MAX_BATCH_ITEMS);
        assert_eq!(batch.get(..4), Some(&[0, usize::MAX, 1, usize::MAX - 1][..]));
        let rest: Vec<usize> = std::iter::repeat_with(|| waiting.take()).take(20).flatten().collect();
        assert_eq!(
            rest,
            (MAX_BATCH_ITEMS - 2..MAX_QUEUED_ITEMS).collect::<Vec<_>>(),
            "nothing is lost, and in order"
        );
        assert!(waiting.items.is_empty() && waiting.turns.is_empty() && waiting.total == 0);
    }

    #[test]
    fn apart_one_whose_batches_are_held_up_leaves_the_others_room() {
        let mut waiting = Waiting::default();
        let (stuck, quiet) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for item in 0..3 * MAX_BATCH_ITEMS {
            waiting.add(stuck, item);
        }
        assert_eq!(waiting.take_apart(), [(stuck, (0..MAX_BATCH_ITEMS).collect())]);
        waiting.add(quiet, 7);
        assert_eq!(
            waiting.take_apart(),
            [(stuck, (MAX_BATCH_ITEMS..2 * MAX_BATCH_ITEMS).collect()), (quiet, vec![7])]
        );
        waiting.end(quiet);
        waiting.add(quiet, 8);
        assert_eq!(waiting.take_apart(), [(quiet, vec![8])], "the other has two at work");
        assert!(waiting.take_apart().is_empty());
        waiting.end(stuck);
        assert_eq!(waiting.take_apart(), [(stuck, (2 * MAX_BATCH_ITEMS..3 * MAX_BATCH_ITEMS).collect())]);
        for org in [stuck, stuck, quiet] {
            waiting.end(org);
        }
        assert!(waiting.items.is_empty() && waiting.at_work.is_empty() && waiting.total == 0);
        for org in 0..100 {
            waiting.add(Uuid::from_u128(org), 0);
        }
        assert_eq!(waiting.take_apart().len(), ALL_WORKERS);
        waiting.end(Uuid::from_u128(0));
        assert_eq!(waiting.take_apart(), [(Uuid::from_u128(8), vec![0])], "in turn");
    }
}
