//! What a merge moved, as it is kept so that the merge can be undone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{identifiers::Identifier, storage::postgres::rows::VendorIdRow, sync::schedule::Attempt};

/// What the merged identity was, and what of the survivor's gave way to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The merged identity's identifiers.
    pub links: Vec<Identifier>,
    /// Its vendor IDs.
    pub vendor_ids: Vec<VendorIdRow>,
    /// Its schedule.
    pub attempts: BTreeMap<String, Attempt>,
    /// Canonical IDs that had been merged into it before.
    pub merged: Vec<Uuid>,
    /// The survivor's vendor IDs that gave way to newer ones.
    pub replaced_ids: Vec<VendorIdRow>,
    /// The survivor's schedules that gave way.
    pub replaced_attempts: BTreeMap<String, Attempt>,
}
