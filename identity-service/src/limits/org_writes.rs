//! The limit on writes of one organisation: a few of its changes run at a time. Changes of one person wait
//! for each other's locks with a connection in hand, so without this an organisation that links thousands of
//! browsers to one user would take the whole pool.

use std::{convert::Infallible, sync::Arc};

use metrics::counter;
use migrations::pool::CHECKOUT_TIMEOUT;
use quick_cache::sync::Cache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use uuid::Uuid;

/// Most changes of one organisation at once: a quarter of the pool.
const AT_ONCE: usize = 4;
/// Most organisations that are remembered. One that is forgotten while it writes may run as many changes
/// again.
const ORGANISATIONS: usize = 10_000;

/// The limits of all organisations; clones share them.
#[derive(Clone)]
pub struct OrgWrites(Arc<Cache<Uuid, Arc<Semaphore>>>);

impl Default for OrgWrites {
    fn default() -> Self {
        Self(Arc::new(Cache::new(ORGANISATIONS)))
    }
}

impl OrgWrites {
    /// A turn of `org` until it is dropped. Waits as long as for a connection; none where it took longer.
    pub async fn take(&self, org: Uuid) -> Option<OwnedSemaphorePermit> {
        let all = || Ok::<_, Infallible>(Arc::new(Semaphore::new(AT_ONCE)));
        let Ok(turns) = self.0.get_or_insert_with(&org, all);
        if let Ok(Ok(turn)) = timeout(CHECKOUT_TIMEOUT, turns.acquire_owned()).await {
            return Some(turn);
        }
        counter!("datafly_shed_total", "by" => "writes").increment(1);
        None
    }
}
