//! How much one organisation may have at work at once, so that none takes all of a core.

use std::sync::Arc;

use metrics::counter;
use proto::v1::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// Calls of one organisation's keys at once: a quarter of what the core takes at all (`grpc/admission.rs`).
const PLACES: usize = 1024;

/// The places of one organisation, of both its environments.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PLACES)))
    }
}

impl Places {
    /// One place until it is dropped; refused as OVERLOADED where all are taken.
    pub fn take(&self) -> Result<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().map_err(|_| {
            counter!("datafly_shed_total", "by" => "organisation").increment(1);
            Error::refused(ErrorReason::Overloaded)
        })
    }
}
