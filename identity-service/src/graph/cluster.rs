//! A canonical identity with all that goes with it when it merges.

use std::collections::BTreeMap;

use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{
    identifiers::Identifier,
    storage::{
        attempt::Attempt,
        postgres::{
            clusters::{Cluster, Link, Moved},
            rows::VendorIdRow,
        },
    },
};

/// Most new links that a canonical identity may get in a day, so that a user ID claimed for thousands of
/// browsers in a row gathers few of them.
pub const NEW_LINKS_A_DAY: i32 = 20;

impl Cluster {
    /// Makes an identity of which nothing is known yet.
    pub fn made(id: Uuid, today: Date) -> Self {
        Self {
            id,
            made: true,
            linked_on: None,
            linked_times: 0,
            last_seen_on: today,
            links: BTreeMap::new(),
            vendor_ids: BTreeMap::new(),
            attempts: BTreeMap::new(),
        }
    }

    /// Number of new links that it got on `today`.
    pub fn links_on(&self, today: Date) -> i32 {
        if self.linked_on == Some(today) { self.linked_times } else { 0 }
    }

    /// Counts `more` links on `today`. False, and nothing is counted, where they would exceed
    /// [`NEW_LINKS_A_DAY`].
    pub fn admit(&mut self, today: Date, more: i32) -> bool {
        let times = self.links_on(today) + more;
        if times > NEW_LINKS_A_DAY {
            return false;
        }
        (self.linked_on, self.linked_times) = (Some(today), times);
        true
    }

    /// Lets an identifier go. What was collected from it stays, and nothing tells from whom it was.
    pub fn release(&mut self, id: &Identifier) -> Option<Link> {
        for row in self.vendor_ids.values_mut() {
            row.anonymous_id = row.anonymous_id.take().filter(|browser| *browser != id.value);
        }
        self.links.remove(id)
    }

    /// Takes over what another knew, and tells what that was. Of two vendor IDs of one field the newest
    /// unexpired one stays; of two schedules the one that synced last.
    pub fn take(&mut self, other: Self, now: OffsetDateTime) -> Moved {
        let mut moved = Moved {
            links: other.links.keys().cloned().collect(),
            vendor_ids: other.vendor_ids.values().map(unnamed).collect(),
            attempts: other.attempts.clone(),
            ..Moved::default()
        };
        for (field, row) in other.vendor_ids {
            let key = |row: &VendorIdRow| (row.expires_at > now, row.collected_at);
            if self.vendor_ids.get(&field).is_none_or(|own| key(own) < key(&row)) {
                let own = self.vendor_ids.insert(field, VendorIdRow { canonical_id: self.id, ..row });
                moved.replaced_ids.extend(own.as_ref().map(unnamed));
            }
        }
        for (vendor, attempt) in other.attempts {
            let key = |attempt: &Attempt| (attempt.last_synced, attempt.next_at);
            if self.attempts.get(&vendor).is_none_or(|own| key(own) < key(&attempt)) {
                let own = self.attempts.insert(vendor.clone(), attempt);
                moved.replaced_attempts.extend(own.map(|own| (vendor, own)));
            }
        }
        moved
    }
}

/// The row as the history keeps it: without the browser, which may be erased when the row has long been
/// somebody else's.
fn unnamed(row: &VendorIdRow) -> VendorIdRow {
    VendorIdRow { anonymous_id: None, ..row.clone() }
}
