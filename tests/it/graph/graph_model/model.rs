//! The sequential model: who is who, one event after the other.

use std::{iter::successors, mem::take};

use super::{canonical::Canonical, op::Way};

/// Canonical identities, the older first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model(pub Vec<Canonical>);

impl Model {
    pub fn home(&self, id: u8) -> Option<usize> {
        self.0.iter().position(|own| own.merged_into.is_none() && own.links.contains_key(&id))
    }

    /// Puts an identifier where it has not been; it begins anew there.
    fn put(&mut self, id: u8, into: usize, way: Way) {
        if let Some(home) = self.home(id) {
            self.0[home].release(id);
        }
        self.0[into].links.insert(id, way);
    }

    fn make(&mut self, id: u8, way: Way) -> usize {
        self.0.push(Canonical::default());
        self.put(id, self.0.len() - 1, way);
        self.0.len() - 1
    }

    /// Counts links, those by a proof apart.
    fn admit(&mut self, at: usize, links: usize, way: Way) -> bool {
        let counted = &mut self.0[at].new_links[usize::from(way.is_proof())];
        let admitted = *counted + links <= 20;
        *counted += if admitted { links } else { 0 };
        admitted
    }

    fn join(&mut self, one: usize, other: usize, way: Way) {
        let rank = |at: usize| (!self.0[at].has_user(), at);
        let (survivor, merged) = if rank(one) < rank(other) { (one, other) } else { (other, one) };
        let links = 1 + self.0[merged].new_links.iter().sum::<usize>();
        if one == other || self.0[merged].has_user() || !self.admit(survivor, links, way) {
            return;
        }
        let gone = &mut self.0[merged];
        gone.merged_into = Some(survivor);
        let (links, ids) = (gone.links.clone(), take(&mut gone.ids));
        self.0[survivor].links.extend(links);
        for ((field, owner), id) in ids {
            self.0[survivor].keep(field, owner, id);
        }
    }

    /// Links an identifier to an identity that it came together with: they are one person.
    fn link(&mut self, id: u8, own: usize, way: Way) {
        match self.home(id) {
            Some(other) => self.join(own, other, way),
            None if self.admit(own, 1, way) => self.put(id, own, way),
            None => _ = self.make(id, way),
        }
    }

    pub fn see(&mut self, browser: u8, user: Option<(u8, Way)>, cookie: Option<u8>, reset: bool) {
        let is_new = |own: &Canonical| own.ids.is_empty() && own.links.len() == 1;
        let known = self.home(browser).filter(|home| !reset || is_new(&self.0[*home]));
        let own = known.unwrap_or_else(|| self.make(browser, Way::Cookie));
        match user {
            // Somebody else was there before: the browser goes to the newest login.
            Some((user, way)) if self.0[own].has_user() && self.home(user) != Some(own) => {
                let theirs = self.home(user).unwrap_or_else(|| self.make(user, way));
                if self.admit(theirs, 1, way) {
                    self.put(browser, theirs, way);
                } else {
                    self.make(browser, Way::Cookie);
                }
            }
            Some((user, way)) => self.link(user, own, way),
            None => {}
        }
        if let Some((user, way)) = user {
            self.strengthen(browser, user, way);
        }
        if let (Some(cookie), Some(own), false) = (cookie, self.home(browser), reset) {
            self.link(cookie, own, Way::Cookie);
        }
    }

    /// Notes that the browser has named the user: a stronger way takes a weaker one's place.
    fn strengthen(&mut self, browser: u8, user: u8, way: Way) {
        let Some(own) = self.home(user).map(|home| &mut self.0[home].links) else { return };
        for id in [browser, user] {
            if let Some(before) = own.get_mut(&id) {
                *before = way.max(*before);
            }
        }
    }

    /// The identity itself and those it was merged into, one after the other; the root is the last.
    pub fn path(&self, at: usize) -> Vec<usize> {
        successors(Some(at), |at| self.0[*at].merged_into).collect()
    }

    pub fn erase(&mut self, id: u8) {
        let Some(root) = self.home(id) else { return };
        let gone = self.0[root].links.clone();
        let erased: Vec<usize> = (0..self.0.len()).filter(|at| self.path(*at).contains(&root)).collect();
        erased.into_iter().for_each(|at| self.0[at] = Canonical::default());
        // Whoever comes back is a stranger to what they had been part of.
        self.0.iter_mut().for_each(|own| own.links.retain(|id, _| !gone.contains_key(id)));
    }

    /// Takes a merge apart: who came with it and is still there goes back, and what they brought with them.
    pub fn unmerge(&mut self, merged: &str) {
        let Some(at) = self.0.iter().position(|own| own.name.as_deref() == Some(merged)) else { return };
        let path = self.path(at);
        let [_, .., root] = path[..] else { return };
        let came = take(&mut self.0[at].links);
        for id in came.keys().copied() {
            if self.0[root].links.contains_key(&id) {
                let brought = self.0[root].take(id);
                self.0[at].links.insert(id, Way::Cookie);
                self.0[at].ids.extend(brought.into_iter().map(|(field, vid)| ((field, Some(id)), vid)));
            }
        }
        self.0[at].merged_into = None;
        for from in &path[1..] {
            self.0[*from].links.retain(|id, _| !came.contains_key(id));
        }
    }
}
