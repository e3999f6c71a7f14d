//! The sequential model: who is who, one event after the other.

use std::{collections::BTreeSet, iter::successors, mem::take};

use super::{BROWSERS, canonical::Canonical, op::Way};

/// Canonical identities, the older first; and the browsers that began by a reset, each with one that it replaced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model(pub Vec<Canonical>, pub BTreeSet<(u8, u8)>);

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

    /// Takes a browser out of an identity where it has not named the user itself, with what it brought. True where it was
    /// there, and did.
    fn part_if_weak(&mut self, id: u8, home: usize) -> bool {
        match self.0[home].links.get(&id) {
            Some(way) if *way < Way::Claim => {
                let brought = self.0[home].take(id);
                self.0[home].links.remove(&id);
                self.0.push(Canonical::default());
                let own = self.0.last_mut().unwrap();
                own.links.insert(id, Way::Cookie);
                own.ids.extend(brought.into_iter().map(|(field, vid)| ((field, Some(id)), vid)));
                false
            }
            way => way.is_some(),
        }
    }

    /// The browsers that resets have replaced by this one, one after the other.
    fn replaced_by(&self, browser: u8) -> BTreeSet<u8> {
        let mut gone = BTreeSet::new();
        for _ in 0..BROWSERS {
            let last = self.1.iter().filter(|(new, _)| *new == browser || gone.contains(new));
            gone = last.map(|(_, old)| *old).collect();
        }
        gone
    }

    /// True where one of the two, or a browser of its identity, began by a reset of the other or of one of that one's.
    fn is_apart(&self, one: u8, other: u8) -> bool {
        let with = |id: u8| -> BTreeSet<u8> {
            let links = self.home(id).map(|home| self.0[home].links.keys().copied());
            links.into_iter().flatten().filter(|id| *id < BROWSERS).chain([id]).collect()
        };
        let began = |new: BTreeSet<u8>, old: &BTreeSet<u8>| {
            new.iter().any(|new| self.replaced_by(*new).intersection(old).next().is_some())
        };
        began(with(one), &with(other)) || began(with(other), &with(one))
    }

    /// Keeps apart within an identity what began by a reset and what it replaced.
    fn keep_apart(&mut self, home: usize) {
        let browsers: Vec<u8> = self.0[home].links.keys().copied().filter(|id| *id < BROWSERS).collect();
        for new in browsers.iter().copied() {
            for old in self.replaced_by(new).into_iter().filter(|old| *old != new) {
                if self.home(old) == Some(home) && self.part_if_weak(new, home) {
                    self.part_if_weak(old, home);
                }
            }
        }
    }

    pub fn see(
        &mut self,
        browser: u8,
        user: Option<(u8, Way)>,
        cookie: Option<u8>,
        reset: bool,
        replaced: &[u8],
    ) {
        let is_new = |own: &Canonical| own.ids.is_empty() && own.links.len() == 1;
        // A reset that is sent again has had its effect, unless somebody has logged in since.
        let is_repeated = |home: usize| {
            let is_done = |old: &u8| self.1.contains(&(browser, *old)) && self.home(*old) != Some(home);
            !replaced.is_empty() && !self.0[home].has_user() && replaced.iter().all(is_done)
        };
        let known = self.home(browser).filter(|home| !reset || is_new(&self.0[*home]) || is_repeated(*home));
        let before = self.home(browser).filter(|_| known.is_none());
        let has_named =
            before.filter(|home| self.0[*home].has_user() && self.0[*home].links[&browser] >= Way::Claim);
        let own = known.unwrap_or_else(|| self.make(browser, Way::Cookie));
        self.1.extend(replaced.iter().map(|old| (browser, *old)));
        // Those of before never named the user whom the new person has named since.
        if let Some(home) = has_named {
            for old in self.replaced_by(browser) {
                self.part_if_weak(old, home);
            }
        }
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
            match self.home(cookie) {
                home if home == Some(own) || !self.is_apart(browser, cookie) => {
                    self.link(cookie, own, Way::Cookie);
                }
                Some(_) => {}
                None => _ = self.make(cookie, Way::Cookie),
            }
        }
        let named = [Some(browser), user.map(|(user, _)| user), cookie.filter(|_| !reset)];
        let named = named.into_iter().flatten().chain(replaced.iter().copied());
        let homes: BTreeSet<usize> = named.filter_map(|id| self.home(id)).collect();
        for home in homes {
            self.keep_apart(home);
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
        self.1.retain(|(new, old)| !gone.contains_key(new) && !gone.contains_key(old));
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
