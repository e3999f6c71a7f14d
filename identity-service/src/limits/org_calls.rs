//! The limit on calls of one organisation at once, so that none takes all of a core.

use std::sync::Arc;

use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls of one organisation's keys at once: a quarter of what the core takes at all ([`super::calls`]).
const CALLS: usize = 1024;

/// The limit of one organisation, for both its environments together; clones share it.
#[derive(Debug, Clone)]
pub struct OrgCalls(Arc<Semaphore>);

impl Default for OrgCalls {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CALLS)))
    }
}

impl OrgCalls {
    /// A place for one call, until it is dropped; none where all are taken.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.0.clone().try_acquire_owned().ok();
        if place.is_none() {
            counter!("datafly_shed_total", "by" => "organisation").increment(1);
        }
        place
    }
}
