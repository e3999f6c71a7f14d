//! What all workers of a process share.

use std::sync::Arc;

use egress::Egress;
use event_log::PostgresLog;
use migrations::sealed::SealKeys;

use crate::{prepare::Preparer, storage::Storage};

/// What all workers of a process share.
pub struct Shared {
    /// The database.
    pub storage: Storage,
    /// The log.
    pub log: PostgresLog,
    /// The way from what is kept to what is sent.
    pub preparer: Preparer,
    /// The way out.
    pub egress: Egress,
    /// Keys that open credentials, and seal what waits.
    pub keys: Arc<SealKeys>,
}
