//! The identity graph: which identifiers are one person. What a transaction has locked is read into a
//! [`Graph`], the rules work on it without a store, and what they changed is written back.

mod claims;
mod cluster;
mod history;
pub mod rules;
pub mod transaction;
pub mod writer;
pub mod writing;

pub use claims::{Claims, LinkToken};

use std::collections::{BTreeMap, BTreeSet};

use proto::v1::RefusalReason;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    identifiers::{Identifier, Kind},
    storage::{
        postgres::{
            clusters::{Cluster, Link, MAX_IDENTIFIERS, Merge},
            resets::Reset,
        },
        via::Via,
    },
};

/// The part of the identity graph that a transaction has locked, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Time at which the change happens.
    pub now: OffsetDateTime,
    /// Time at which what is being applied was said: that of its signing, else now.
    pub said_at: OffsetDateTime,
    /// Canonical identities by their ID, roots only.
    pub clusters: BTreeMap<Uuid, Cluster>,
    /// The canonical identity that each identifier is linked to.
    pub homes: BTreeMap<Identifier, Uuid>,
    /// Merges of identities that were stored, in order.
    pub merges: Vec<Merge>,
    /// Resets among the browsers of these identities: what replaced what on its device.
    pub resets: BTreeSet<Reset>,
    /// Number of times that an identifier came to a canonical identity.
    pub edits: usize,
}

impl Graph {
    /// A graph of these clusters.
    pub fn new(clusters: Vec<Cluster>, now: OffsetDateTime) -> Self {
        let homes = clusters
            .iter()
            .flat_map(|cluster| cluster.links.keys().map(|id| (id.clone(), cluster.id)))
            .collect();
        let clusters = clusters.into_iter().map(|cluster| (cluster.id, cluster)).collect();
        Self { now, said_at: now, clusters, homes, merges: Vec::new(), resets: BTreeSet::new(), edits: 0 }
    }

    /// The canonical identity of an identifier.
    pub fn home(&self, id: &Identifier) -> Option<Uuid> {
        self.homes.get(id).copied()
    }

    /// The user of a canonical identity; it has one at most.
    pub fn user(&self, canonical: Uuid) -> Option<&Identifier> {
        self.clusters.get(&canonical)?.user()
    }

    /// Makes a canonical identity for an identifier, taking it from where it was.
    pub fn make(&mut self, id: &Identifier, via: Via) -> Uuid {
        let made = Cluster::made(Uuid::now_v7(), self.now.date());
        let canonical = made.id;
        self.clusters.insert(canonical, made);
        self.put(id, canonical, via);
        canonical
    }

    /// Links an identifier to a canonical identity, taking it from where it was.
    pub fn put(&mut self, id: &Identifier, canonical: Uuid, via: Via) {
        self.edits += 1;
        let before = self.homes.insert(id.clone(), canonical);
        let (now, said_at) = (self.now, self.said_at);
        if let Some(home) = before.and_then(|home| self.clusters.get_mut(&home)) {
            home.release(id, now);
            home.settle();
        }
        if let Some(cluster) = self.clusters.get_mut(&canonical) {
            cluster.links.insert(id.clone(), Link { via, linked_at: said_at, last_used_at: now });
        }
    }

    /// True where the identifier came to where it is after `at`.
    pub fn is_newer(&self, id: &Identifier, at: OffsetDateTime) -> bool {
        let home = self.home(id).and_then(|home| self.clusters.get(&home));
        home.and_then(|home| home.links.get(id)).is_some_and(|link| link.linked_at > at)
    }

    /// Makes two canonical identities one and returns the survivor: the one with a user, else the older.
    /// Refused where each has a user, or where the survivor has had its share of links today. An identity
    /// that was made in this very change leaves no trace in the other's history.
    pub fn join(&mut self, one: Uuid, other: Uuid, via: Via) -> Result<Uuid, RefusalReason> {
        let rank = |id: Uuid| {
            let made = self.clusters.get(&id).is_some_and(|cluster| cluster.made);
            (self.user(id).is_none(), made, id)
        };
        let (survivor, merged) = if rank(one) <= rank(other) { (one, other) } else { (other, one) };
        if self.user(one).is_some() && self.user(other).is_some() {
            return Err(RefusalReason::DifferentUsers);
        }
        // What the other got today the survivor gets today: a merge is no way around the bound.
        let today = self.now.date();
        let more = 1 + self.clusters.get(&merged).map_or(0, |cluster| cluster.links_on(today));
        if !self.clusters.get_mut(&survivor).is_some_and(|cluster| cluster.admit(today, more, via)) {
            return Err(RefusalReason::TooManyLinks);
        }
        self.edits += 1;
        let Some(cluster) = self.clusters.remove(&merged) else { return Ok(survivor) };
        for (id, link) in &cluster.links {
            self.homes.insert(id.clone(), survivor);
            if let Some(into) = self.clusters.get_mut(&survivor) {
                into.links.insert(id.clone(), Link { linked_at: self.said_at, ..link.clone() });
            }
        }
        if let Some(into) = self.clusters.get_mut(&survivor) {
            let made = cluster.made;
            let moved = into.take(cluster, self.now);
            if !made {
                self.merges.push(Merge { survivor, merged, moved });
            }
        }
        Ok(survivor)
    }

    /// True where the browser, or one of its identity, began by a reset of the other or of one of that one's, or of one
    /// that began so itself.
    pub fn began_from(&self, began: &Identifier, replaced: &Identifier) -> bool {
        if self.resets.is_empty() {
            return false;
        }
        let (new, old) = (self.browsers_with(began), self.browsers_with(replaced));
        new.iter().any(|new| self.replaced_by(new).iter().any(|gone| old.contains(gone)))
    }

    /// The browsers of an identifier's identity, and its own ID.
    fn browsers_with<'a>(&'a self, id: &'a Identifier) -> BTreeSet<&'a str> {
        let own = self.home(id).and_then(|home| self.clusters.get(&home));
        let links = own.into_iter().flat_map(|own| own.links.keys()).chain([id]);
        links.filter(|id| id.kind == Kind::AnonymousId).map(|id| id.value.as_str()).collect()
    }

    /// The browsers that a reset has replaced by this one, one after the other.
    pub fn replaced_by(&self, browser: &str) -> BTreeSet<&str> {
        let mut gone = BTreeSet::new();
        let mut last = vec![browser];
        while !last.is_empty() {
            let before = self.resets.iter().filter(|(new, _)| last.contains(&new.as_str()));
            last = before.map(|(_, old)| old.as_str()).filter(|old| gone.insert(*old)).collect();
        }
        gone
    }

    /// Takes a browser out of its identity, with what it brought.
    pub fn part_off(&mut self, browser: &Identifier) {
        let now = self.now;
        let home = self.home(browser).and_then(|home| self.clusters.get_mut(&home));
        let Some(home) = home else { return };
        let mut apart = home.part(Uuid::now_v7(), std::slice::from_ref(browser), now);
        home.settle();
        apart.made = true;
        apart.settle();
        self.edits += 1;
        self.homes.insert(browser.clone(), apart.id);
        self.clusters.insert(apart.id, apart);
    }

    /// Notes how the browsers of an identity have come together, as far as they have not come to anybody before.
    pub fn join_by(&mut self, canonical: Uuid, via: Via) {
        if let Some(cluster) = self.clusters.get_mut(&canonical) {
            cluster.join_by(via);
        }
    }

    /// Counts a new link of a canonical identity, unless it has had its share of today.
    pub fn admit(&mut self, canonical: Uuid, via: Via) -> bool {
        let today = self.now.date();
        self.clusters.get_mut(&canonical).is_some_and(|cluster| cluster.admit(today, 1, via))
    }

    /// Drops the identifiers unused longest that are too many; never a user, nor one of `present`, and none that is
    /// tied by a proof while there is one without: whoever claims a user ID for browsers without end drops their own.
    pub fn trim(&mut self, canonical: Uuid, present: &[&Identifier]) {
        let Some(cluster) = self.clusters.get_mut(&canonical) else { return };
        while cluster.links.len() > MAX_IDENTIFIERS {
            let droppable = cluster
                .links
                .iter()
                .filter(|(id, _)| id.kind != Kind::UserId && !present.contains(id))
                .min_by_key(|(id, link)| (link.via.is_proof(), link.last_used_at, *id));
            let Some(dropped) = droppable.map(|(id, _)| id.clone()) else { return };
            cluster.release(&dropped, self.now);
            self.homes.remove(&dropped);
        }
    }
}

#[cfg(test)]
mod tests;
