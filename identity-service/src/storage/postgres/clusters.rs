//! Rows of the identity graph: canonical identities with all that goes with them when they merge, and what a merge
//! moved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};
use uuid::Uuid;

use super::rows::{Owner, VendorIdRow};
use crate::{
    identifiers::Identifier,
    storage::{attempt::Attempts, via::Via},
};

/// Most identifiers that one canonical identity may have (Adobe's identity graphs keep as many). Beyond them
/// the one unused longest is dropped, never a user ID.
pub const MAX_IDENTIFIERS: usize = 50;

/// An identifier's place in a canonical identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The way in which it came there. Of a browser whose identity has no user it tells how it would have met one.
    pub via: Via,
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
    /// Number of links that it got on that day without a proof.
    pub linked_times: i32,
    /// Number of links that it got on that day with a proof.
    pub proven_times: i32,
    /// The last day on which one of its identifiers was seen.
    pub last_seen_on: Date,
    /// The identity's identifiers and their links.
    pub links: BTreeMap<Identifier, Link>,
    /// The identity's vendor IDs by field and owner, expired ones included.
    pub vendor_ids: BTreeMap<(String, Owner), VendorIdRow>,
    /// The sync schedules of the identity's browsers.
    pub attempts: Attempts,
}

/// A merge, by which two canonical identities became one.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// The identity that is left.
    pub survivor: Uuid,
    /// The identity that is gone.
    pub merged: Uuid,
    /// The part of the merged identity that the history keeps.
    pub moved: Moved,
}

/// The part of a merged identity that says who goes back when it is taken apart again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The merged identity's identifiers. Their vendor IDs and schedules go with them.
    pub links: Vec<Identifier>,
    /// Canonical IDs that had been merged into the merged identity before.
    pub merged: Vec<Uuid>,
    /// The number of vendor IDs that it had.
    pub vendor_ids: usize,
}
