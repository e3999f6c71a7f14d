//! Rows of the identity graph: canonical identities with all that goes with them when they merge, and what a merge
//! moved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::rows::VendorIdRow;
use crate::{identifiers::Identifier, storage::attempt::Attempt};

/// Most identifiers that one canonical identity may have (Adobe's identity graphs keep as many). Beyond them
/// the one unused longest is dropped, never a user ID.
pub const MAX_IDENTIFIERS: usize = 50;

/// An identifier's place in a canonical identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// True where the identifier came in a signed call or with a proof; a browser vouches for its own.
    pub verified: bool,
    /// Time at which the identifier came to this canonical identity.
    pub linked_at: OffsetDateTime,
    /// Time of the last change that the identifier took part in, to the day.
    pub last_used_at: OffsetDateTime,
}

/// A canonical identity that was merged into no other, with all that it knows.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The identity's canonical ID.
    pub id: Uuid,
    /// True where this change makes the identity.
    pub made: bool,
    /// The last day on which it got links.
    pub linked_on: Option<Date>,
    /// Number of links that it got on that day.
    pub linked_times: i32,
    /// The last day on which one of its identifiers was seen.
    pub last_seen_on: Date,
    /// The identity's identifiers and their links.
    pub links: BTreeMap<Identifier, Link>,
    /// The identity's vendor IDs by field, expired ones included.
    pub vendor_ids: BTreeMap<String, VendorIdRow>,
    /// The identity's sync schedules by vendor.
    pub attempts: BTreeMap<String, Attempt>,
}

/// A merge, by which two canonical identities became one.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// The identity that is left.
    pub survivor: Uuid,
    /// The identity that is gone.
    pub merged: Uuid,
    /// Identifiers, vendor IDs and schedules that went along.
    pub moved: Moved,
}

/// The merged identity as it was, and what of the survivor's gave way to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The merged identity's identifiers.
    pub links: Vec<Identifier>,
    /// The merged identity's vendor IDs.
    pub vendor_ids: Vec<VendorIdRow>,
    /// The merged identity's sync schedules by vendor.
    pub attempts: BTreeMap<String, Attempt>,
    /// Canonical IDs that had been merged into the merged identity before.
    pub merged: Vec<Uuid>,
    /// The survivor's vendor IDs that gave way to newer ones.
    pub replaced_ids: Vec<VendorIdRow>,
    /// The survivor's schedules that gave way to later ones.
    pub replaced_attempts: BTreeMap<String, Attempt>,
}
