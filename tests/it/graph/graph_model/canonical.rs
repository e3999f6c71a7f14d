//! A canonical identity of the model: who belongs to it, what each has brought, and what of it answers.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    BROWSERS,
    op::{Vid, Way, is_click, lives},
};

/// The one who brought a vendor ID; none where they have left, or are not known.
pub type Owner = Option<u8>;

/// A canonical identity. One that is merged keeps its links as they were, to be taken out again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Canonical {
    /// The canonical ID, once it was seen.
    pub name: Option<Arc<str>>,
    pub merged_into: Option<usize>,
    pub links: BTreeMap<u8, Way>,
    pub ids: BTreeMap<(&'static str, Owner), Vid>,
    /// Links of today without a proof, and with one.
    pub new_links: [usize; 2],
}

impl Canonical {
    pub fn has_user(&self) -> bool {
        self.links.keys().next_back() >= Some(&BROWSERS)
    }

    /// Takes over a vendor ID. Of two that are nobody's the newest that lives stays.
    pub fn keep(&mut self, field: &'static str, owner: Owner, id: Vid) {
        let kept = self.ids.entry((field, owner)).or_insert(id);
        if (lives(id), id) > (lives(*kept), *kept) {
            *kept = id;
        }
    }

    /// Lets an identifier go. What it brought stays, as nobody's.
    pub fn release(&mut self, id: u8) {
        self.links.remove(&id);
        for (field, brought) in self.take(id) {
            self.keep(field, None, brought);
        }
    }

    /// Takes what an identifier has brought.
    pub fn take(&mut self, id: u8) -> Vec<(&'static str, Vid)> {
        let gone = self.ids.extract_if(.., |(_, owner), _| *owner == Some(id));
        gone.map(|((field, _), brought)| (field, brought)).collect()
    }

    /// The vendor ID that an identifier has brought in a field, unless it has expired.
    pub fn living(&self, field: &'static str, owner: u8) -> Option<Vid> {
        self.ids.get(&(field, Some(owner))).copied().filter(|id| lives(*id))
    }

    /// The vendor ID that answers in a field, with its owner: for a browser, or else for the person.
    pub fn answer(&self, field: &str, browser: Option<u8>) -> Option<(Owner, Vid)> {
        let living = self.ids.iter().filter(|((own, _), id)| *own == field && lives(**id));
        let living: Vec<(Owner, Vid)> = living.map(|((_, owner), id)| (*owner, *id)).collect();
        let newest = |counts: &dyn Fn(Owner) -> bool| {
            living.iter().filter(|(owner, _)| counts(*owner)).max_by_key(|(_, id)| *id).copied()
        };
        let is_own = |owner: Owner| browser.is_some() && owner == browser;
        let is_proven =
            |owner: Owner| owner.and_then(|id| self.links.get(&id)).is_some_and(|way| way.is_proof());
        let first = if is_click(field) {
            newest(&|owner| is_own(owner) || is_proven(owner))
        } else {
            newest(&is_own).or_else(|| newest(&is_proven))
        };
        first.or_else(|| newest(&|_| true).filter(|_| !is_proven(browser)))
    }
}
