//! The sequential model: who is who, one event after the other.

use std::{collections::BTreeSet, iter::successors, sync::Arc};

use super::{
    BROWSERS,
    op::{Vid, lives},
};

/// A canonical identity. One that is merged is kept as it was, to be taken out again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Canonical {
    /// The canonical ID, once it was seen.
    pub name: Option<Arc<str>>,
    pub merged_into: Option<usize>,
    pub links: BTreeSet<u8>,
    /// Vendor IDs by field, of which the last one counts. Where that is taken out, the one before comes back.
    pub ids: Vec<(&'static str, Vid)>,
    pub new_links: usize,
}

impl Canonical {
    /// The vendor ID in a field; true where it has not expired.
    pub fn id(&self, field: &str) -> Option<(bool, Vid)> {
        self.ids.iter().rfind(|(own, _)| *own == field).map(|(_, id)| (lives(*id), *id))
    }

    fn has_user(&self) -> bool {
        self.links.last() >= Some(&BROWSERS)
    }
}

/// Canonical identities, the older first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model(pub Vec<Canonical>);

impl Model {
    pub fn home(&self, id: u8) -> Option<usize> {
        self.0.iter().position(|own| own.merged_into.is_none() && own.links.contains(&id))
    }

    fn put(&mut self, id: u8, into: usize) {
        _ = self.home(id).map(|home| self.0[home].links.remove(&id));
        self.0[into].links.insert(id);
    }

    fn make(&mut self, id: u8) -> usize {
        self.0.push(Canonical::default());
        self.put(id, self.0.len() - 1);
        self.0.len() - 1
    }

    fn admit(&mut self, at: usize, links: usize) -> bool {
        let admitted = self.0[at].new_links + links <= 20;
        self.0[at].new_links += if admitted { links } else { 0 };
        admitted
    }

    fn join(&mut self, one: usize, other: usize) {
        let rank = |at: usize| (!self.0[at].has_user(), at);
        let (survivor, merged) = if rank(one) < rank(other) { (one, other) } else { (other, one) };
        let gone = self.0[merged].clone();
        if one == other || gone.has_user() || !self.admit(survivor, 1 + gone.new_links) {
            return;
        }
        self.0[merged].merged_into = Some(survivor);
        let own = &mut self.0[survivor];
        own.links.extend(&gone.links);
        let newer = gone.ids.iter().filter(|(field, _)| gone.id(field) > own.id(field));
        own.ids.extend(newer.copied().collect::<Vec<_>>());
    }

    /// Links an identifier to an identity that it came together with: they are one person.
    fn link(&mut self, id: u8, own: usize) {
        match self.home(id) {
            Some(other) => self.join(own, other),
            None if self.admit(own, 1) => self.put(id, own),
            None => _ = self.make(id),
        }
    }

    pub fn see(&mut self, browser: u8, user: Option<u8>, cookie: Option<u8>, reset: bool) {
        let is_new = |own: &Canonical| own.ids.is_empty() && own.links.len() == 1;
        let known = self.home(browser).filter(|home| !reset || is_new(&self.0[*home]));
        let own = known.unwrap_or_else(|| self.make(browser));
        match user {
            // Somebody else was there before: the browser goes to the newest login.
            Some(user) if self.0[own].has_user() && self.home(user) != Some(own) => {
                let theirs = self.home(user).unwrap_or_else(|| self.make(user));
                if self.admit(theirs, 1) { self.put(browser, theirs) } else { _ = self.make(browser) }
            }
            Some(user) => self.link(user, own),
            None => {}
        }
        if let (Some(cookie), Some(own), false) = (cookie, self.home(browser), reset) {
            self.link(cookie, own);
        }
    }

    /// The identity itself and those it was merged into, one after the other; the root is the last.
    fn path(&self, at: usize) -> Vec<usize> {
        successors(Some(at), |at| self.0[*at].merged_into).collect()
    }

    pub fn erase(&mut self, id: u8) {
        let Some(root) = self.home(id) else { return };
        let gone = self.0[root].links.clone();
        let erased: Vec<usize> = (0..self.0.len()).filter(|at| self.path(*at).contains(&root)).collect();
        erased.into_iter().for_each(|at| self.0[at] = Canonical::default());
        // Whoever comes back is a stranger to what they had been part of.
        self.0.iter_mut().for_each(|own| own.links.retain(|id| !gone.contains(id)));
    }

    pub fn unmerge(&mut self, merged: &str) {
        let Some(at) = self.0.iter().position(|own| own.name.as_deref() == Some(merged)) else { return };
        let (path, own) = (self.path(at), self.0[at].clone());
        let [_, .., root] = path[..] else { return };
        self.0[at].links = &own.links & &self.0[root].links;
        self.0[at].merged_into = None;
        for from in &path[1..] {
            self.0[*from].links.retain(|id| !own.links.contains(id));
            self.0[*from].ids.retain(|id| !own.ids.contains(id));
        }
    }
}
