//! A canonical identity with all that goes with it when it merges.

use std::collections::BTreeMap;

use time::{Date, OffsetDateTime};
use uuid::Uuid;

use crate::{
    identifiers::{Identifier, Kind},
    storage::{
        attempt::{Attempt, Attempts, VendorAndBrowser},
        postgres::{
            clusters::{Cluster, Link, Moved},
            rows::{Owner, VendorIdRow},
        },
        via::Via,
    },
    vendor_ids::{entries::Known, ties::Ties},
};

/// Most new links that a canonical identity may get in a day, so that a user ID claimed for thousands of
/// browsers in a row gathers few of them. As many may come with a proof.
pub const NEW_LINKS_A_DAY: i32 = 20;

impl Cluster {
    /// Makes an identity of which nothing is known yet.
    pub fn made(id: Uuid, today: Date) -> Self {
        Self {
            id,
            made: true,
            linked_on: None,
            linked_times: 0,
            proven_times: 0,
            last_seen_on: today,
            links: BTreeMap::new(),
            vendor_ids: BTreeMap::new(),
            attempts: BTreeMap::new(),
        }
    }

    /// Number of new links that it got on `today`.
    pub fn links_on(&self, today: Date) -> i32 {
        if self.linked_on == Some(today) { self.linked_times + self.proven_times } else { 0 }
    }

    /// Counts `more` links on `today`, which came in this way. False, and nothing is counted, where they would exceed
    /// [`NEW_LINKS_A_DAY`]. Those by a proof are counted apart: claims don't use up what they need.
    pub fn admit(&mut self, today: Date, more: i32, via: Via) -> bool {
        let is_today = self.linked_on == Some(today);
        let (claimed, proven) = if is_today { (self.linked_times, self.proven_times) } else { (0, 0) };
        let (claimed, proven) =
            if via.is_proof() { (claimed, proven + more) } else { (claimed + more, proven) };
        if claimed > NEW_LINKS_A_DAY || proven > NEW_LINKS_A_DAY {
            return false;
        }
        (self.linked_on, self.linked_times, self.proven_times) = (Some(today), claimed, proven);
        true
    }

    /// The user of the identity, which has one at most.
    pub fn user(&self) -> Option<&Identifier> {
        self.links.keys().find(|id| id.kind == Kind::UserId)
    }

    /// What is known of its vendor IDs.
    pub fn known(&self) -> Known {
        let ties = Ties::new(self.links.iter().map(|(id, link)| (id.clone(), link.via)));
        Known { ids: self.vendor_ids.values().cloned().collect(), ties }
    }

    /// Lets an identifier go. What it brought stays, and nothing tells from whom it was.
    pub fn release(&mut self, id: &Identifier, now: OffsetDateTime) -> Option<Link> {
        for row in self.take_ids(id) {
            self.put_id(VendorIdRow { owner: Owner::NOBODY, ..row }, now);
        }
        for ((vendor, _), attempt) in self.take_attempts(id) {
            self.put_attempt((vendor, String::new()), attempt);
        }
        self.links.remove(id)
    }

    /// Takes out the vendor IDs that an identifier owns.
    pub fn take_ids(&mut self, id: &Identifier) -> Vec<VendorIdRow> {
        self.vendor_ids.extract_if(.., |(_, owner), _| owner.is(id)).map(|(_, row)| row).collect()
    }

    /// Takes out the schedules of a browser.
    pub fn take_attempts(&mut self, id: &Identifier) -> Attempts {
        let is_browser = id.kind == Kind::AnonymousId;
        self.attempts.extract_if(.., |(_, browser), _| is_browser && *browser == id.value).collect()
    }

    /// Adds a vendor ID. Of two of nobody's in one field the newest stays that lives and may answer.
    pub fn put_id(&mut self, row: VendorIdRow, now: OffsetDateTime) {
        let place = (row.field.clone(), row.owner.clone());
        let newness = |row: &VendorIdRow| (row.expires_at > now && !row.is_withheld, row.collected_at);
        let row = VendorIdRow { canonical_id: self.id, ..row };
        if self.vendor_ids.get(&place).is_none_or(|own| newness(own) < newness(&row)) {
            self.vendor_ids.insert(place, row);
        }
    }

    /// Adds a schedule. Of two of nobody's with one vendor the one that synced last stays.
    pub fn put_attempt(&mut self, of: VendorAndBrowser, attempt: Attempt) {
        let key = |attempt: &Attempt| (attempt.last_synced, attempt.next_at);
        if self.attempts.get(&of).is_none_or(|own| key(own) < key(&attempt)) {
            self.attempts.insert(of, attempt);
        }
    }

    /// Takes over what another knew, and tells what goes back when they are taken apart again.
    pub fn take(&mut self, other: Self, now: OffsetDateTime) -> Moved {
        let links = other.links.keys().cloned().collect();
        let moved = Moved { links, merged: Vec::new(), vendor_ids: other.vendor_ids.len() };
        for row in other.vendor_ids.into_values() {
            self.put_id(row, now);
        }
        for (of, attempt) in other.attempts {
            self.put_attempt(of, attempt);
        }
        moved
    }

    /// Takes out what belongs to these identifiers, as far as they are still here: they are the identity `id` again,
    /// on its own.
    pub fn part(&mut self, id: Uuid, identifiers: &[Identifier], now: OffsetDateTime) -> Self {
        let mut apart = Self { made: false, ..Self::made(id, now.date()) };
        for identifier in identifiers {
            let Some(link) = self.links.remove(identifier) else { continue };
            apart.links.insert(identifier.clone(), Link { linked_at: now, ..link });
            for row in self.take_ids(identifier) {
                apart.put_id(row, now);
            }
            apart.attempts.append(&mut self.take_attempts(identifier));
        }
        apart
    }

    /// Notes how the browsers that had not come to anybody yet have come together, or to a user.
    pub fn join_by(&mut self, via: Via) {
        for (id, link) in &mut self.links {
            if id.kind == Kind::AnonymousId && link.via == Via::Own {
                link.via = via;
            }
        }
    }

    /// Forgets how browsers came to a user who is not there, or to others that are not.
    pub fn settle(&mut self) {
        let (has_user, is_single) = (self.user().is_some(), self.links.len() == 1);
        for link in self.links.values_mut().filter(|_| !has_user) {
            if is_single || link.via >= Via::Claim {
                link.via = if is_single { Via::Own } else { Via::Cookie };
            }
        }
        if has_user {
            self.join_by(Via::Cookie);
        }
    }
}
