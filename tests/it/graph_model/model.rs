//! The sequential model: who is who, one event after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::v1::IdentityVendorIds;

use super::{BROWSERS, IDS};

#[derive(Debug, Clone)]
pub enum Op {
    See {
        browser: u8,
        user: Option<u8>,
        cookie: Option<u8>,
        reset: bool,
    },
    Erase(u8),
    /// By canonical IDs: the last one of these two.
    Unmerge {
        survivor: String,
        merged: String,
    },
}

impl Op {
    pub fn ids(&self) -> Vec<u8> {
        match self {
            Self::See { browser, user, cookie, .. } => {
                [Some(*browser), *user, *cookie].into_iter().flatten().collect()
            }
            Self::Erase(_) | Self::Unmerge { .. } => Vec::new(),
        }
    }
}

/// A vendor ID: the later, the greater. Every fifth has expired.
pub type Vid = u64;

pub fn lives(id: Vid) -> bool {
    !id.is_multiple_of(5)
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// Its canonical ID, once it was seen.
    pub real: Option<Arc<str>>,
    pub root: Option<usize>,
    pub links: BTreeSet<u8>,
    pub ids: BTreeMap<&'static str, Vid>,
    pub new_links: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    pub survivor: usize,
    pub merged: usize,
    pub links: BTreeSet<u8>,
    pub ids: BTreeMap<&'static str, Vid>,
    /// The survivor's IDs that gave way.
    pub replaced: BTreeMap<&'static str, Vid>,
    /// What had been merged into it before.
    pub within: Vec<usize>,
    pub undone: bool,
}

/// The rules of the graph, one operation after another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub clusters: BTreeMap<usize, Cluster>,
    pub made: usize,
    pub merges: Vec<Merge>,
}

impl Model {
    fn home(&self, id: u8) -> Option<usize> {
        self.clusters.iter().find(|(_, own)| own.links.contains(&id)).map(|(at, _)| *at)
    }

    fn put(&mut self, id: u8, into: usize) {
        self.clusters.values_mut().for_each(|own| _ = own.links.remove(&id));
        self.clusters.get_mut(&into).unwrap().links.insert(id);
    }

    fn make(&mut self, id: u8) -> usize {
        self.made += 1;
        self.clusters.insert(self.made, Cluster::default());
        self.put(id, self.made);
        self.made
    }

    fn has_user(&self, at: usize) -> bool {
        self.clusters[&at].links.iter().any(|id| *id >= BROWSERS)
    }

    fn admit(&mut self, at: usize, links: usize) -> bool {
        let own = self.clusters.get_mut(&at).unwrap();
        let admitted = own.new_links + links <= 20;
        own.new_links += if admitted { links } else { 0 };
        admitted
    }

    fn join(&mut self, one: usize, other: usize) {
        let rank = |at: usize| {
            let real = self.clusters[&at].real.as_ref();
            (!self.has_user(at), real.is_none(), real, at)
        };
        let (survivor, merged) = if rank(one) < rank(other) { (one, other) } else { (other, one) };
        let more = 1 + self.clusters[&merged].new_links;
        if one == other || self.has_user(one) && self.has_user(other) || !self.admit(survivor, more) {
            return;
        }
        let gone = self.clusters.get_mut(&merged).unwrap();
        let (links, ids) = (std::mem::take(&mut gone.links), std::mem::take(&mut gone.ids));
        let mut within = Vec::new();
        for (at, own) in &mut self.clusters {
            if own.root == Some(merged) || *at == merged {
                own.root = Some(survivor);
                within.push(*at);
            }
        }
        let own = self.clusters.get_mut(&survivor).unwrap();
        own.links.extend(&links);
        let mut replaced = BTreeMap::new();
        for (field, id) in &ids {
            if own.ids.get(field).is_none_or(|old| (lives(*old), old) < (lives(*id), id)) {
                replaced.extend(own.ids.insert(field, *id).map(|old| (*field, old)));
            }
        }
        within.retain(|at| *at != merged);
        self.merges.push(Merge { survivor, merged, links, ids, replaced, within, undone: false });
    }

    fn see(&mut self, browser: u8, user: Option<u8>, cookie: Option<u8>, reset: bool) {
        let is_new = |own: &Cluster| own.ids.is_empty() && own.links.len() == 1;
        let known = self.home(browser).filter(|home| !reset || is_new(&self.clusters[home]));
        let own = known.unwrap_or_else(|| self.make(browser));
        match user.map(|user| (user, self.home(user))) {
            Some((_, Some(theirs))) if theirs == own => {}
            Some((user, theirs)) if self.has_user(own) => {
                let theirs = theirs.unwrap_or_else(|| self.make(user));
                if self.admit(theirs, 1) { self.put(browser, theirs) } else { _ = self.make(browser) }
            }
            Some((_, Some(theirs))) => self.join(own, theirs),
            Some((user, None)) if self.admit(own, 1) => self.put(user, own),
            Some((user, None)) => _ = self.make(user),
            None => {}
        }
        let own = self.home(browser).unwrap();
        match cookie.filter(|cookie| !reset && *cookie != browser).map(|cookie| (cookie, self.home(cookie))) {
            Some((_, Some(theirs))) => self.join(own, theirs),
            Some((cookie, None)) if self.admit(own, 1) => self.put(cookie, own),
            Some((cookie, None)) => _ = self.make(cookie),
            None => {}
        }
    }

    fn erase(&mut self, id: u8) {
        let Some(root) = self.home(id) else { return };
        let gone = self.clusters[&root].links.clone();
        self.clusters.retain(|at, own| *at != root && own.root != Some(root));
        let there = |at: &usize| self.clusters.contains_key(at);
        self.merges.retain(|merge| there(&merge.survivor) && there(&merge.merged));
        // Whoever comes back is a stranger to what they had been part of.
        for merge in &mut self.merges {
            merge.links.retain(|id| !gone.contains(id));
        }
    }

    fn unmerge(&mut self, survivor: &str, merged: &str) {
        let is = |at: usize, name: &str| self.clusters[&at].real.as_deref() == Some(name);
        let wanted = |one: &Merge| !one.undone && is(one.survivor, survivor) && is(one.merged, merged);
        let Some(at) = self.merges.iter().rposition(wanted) else { return };
        self.merges[at].undone = true;
        let undone = self.merges[at].clone();
        let merged = undone.merged;
        let root = self.clusters[&merged].root.unwrap();
        for (at, own) in &mut self.clusters {
            if *at == merged {
                own.root = None;
            } else if undone.within.contains(at) && own.root == Some(root) {
                own.root = Some(merged);
            }
        }
        let from = self.clusters.get_mut(&root).unwrap();
        let links: BTreeSet<u8> = undone.links.intersection(&from.links).copied().collect();
        from.links.retain(|id| !links.contains(id));
        // Wherever its IDs stood in for others, those come back.
        let mut places = vec![&mut from.ids];
        for (_, other) in self.merges.iter_mut().enumerate().filter(|(other, _)| *other != at) {
            if other.within.contains(&merged) {
                other.links.retain(|id| !undone.links.contains(id));
                other.within.retain(|at| *at != merged && !undone.within.contains(at));
            }
            places.extend([&mut other.ids, &mut other.replaced]);
        }
        for (field, id) in &undone.ids {
            for place in places.iter_mut().filter(|place| place.get(field) == Some(id)) {
                place.remove(field);
                place.extend(undone.replaced.get(field).map(|old| (*field, *old)));
            }
        }
        let apart = self.clusters.get_mut(&merged).unwrap();
        (apart.links, apart.ids) = (links, undone.ids);
    }

    pub fn play(&mut self, op: &Op) {
        match op {
            Op::See { browser, user, cookie, reset } => self.see(*browser, *user, *cookie, *reset),
            Op::Erase(id) => self.erase(*id),
            Op::Unmerge { survivor, merged } => self.unmerge(survivor, merged),
        }
    }

    /// Learns the canonical IDs that were seen, if that is what was seen.
    pub fn agrees(&mut self, seen: &[IdentityVendorIds]) -> bool {
        let mut names = BTreeSet::new();
        for own in self.clusters.values_mut().filter(|own| own.root.is_none()) {
            let expected: BTreeMap<&str, String> = own
                .ids
                .iter()
                .filter(|(_, id)| lives(**id))
                .map(|(field, id)| (*field, id.to_string()))
                .collect();
            let mut seen_names: Vec<&String> = Vec::new();
            for id in &own.links {
                let seen = &seen[usize::from(*id)];
                let found: BTreeMap<&str, String> =
                    seen.vendor_ids.iter().map(|(field, id)| (field.as_str(), id.value.clone())).collect();
                if found != expected {
                    return false;
                }
                seen_names.push(&seen.canonical_id);
            }
            let Some(name) = seen_names.first().copied() else { continue };
            let same = seen_names.iter().all(|other| *other == name)
                && own.real.as_ref().is_none_or(|real| **real == **name);
            if name.is_empty() || !same || !names.insert(name.clone()) {
                return false;
            }
            own.real = Some(name.as_str().into());
        }
        self.forget_unseen();
        (0..IDS).all(|id| self.home(id).is_some() || seen[usize::from(id)].canonical_id.is_empty())
    }

    /// What came and went within a round can't be named any more. The rest is numbered by canonical ID, so that states
    /// that are the same look the same.
    fn forget_unseen(&mut self) {
        let mut seen: Vec<(Arc<str>, usize)> =
            self.clusters.iter().filter_map(|(at, own)| Some((own.real.clone()?, *at))).collect();
        seen.sort();
        let number: BTreeMap<usize, usize> =
            seen.iter().enumerate().map(|(new, (_, old))| (*old, new)).collect();
        let renamed = |(at, own): (usize, Cluster)| {
            let root = own.root.and_then(|root| number.get(&root).copied());
            Some((*number.get(&at)?, Cluster { root, ..own }))
        };
        self.clusters = std::mem::take(&mut self.clusters).into_iter().filter_map(renamed).collect();
        self.merges = std::mem::take(&mut self.merges)
            .into_iter()
            .filter_map(|merge| {
                let (survivor, merged) = (*number.get(&merge.survivor)?, *number.get(&merge.merged)?);
                let mut within: Vec<usize> =
                    merge.within.iter().filter_map(|at| number.get(at)).copied().collect();
                within.sort_unstable();
                Some(Merge { survivor, merged, within, ..merge })
            })
            .collect();
        self.made = number.len();
    }
}
