//! Comparison of what was seen with what the model says.

use std::{collections::BTreeMap, mem::take};

use proto::v1::{IdentityVendorIds, LinkedIdentifier, Person, VendorId};

use super::{
    BROWSERS, FIELDS, IDS,
    canonical::{Canonical, Owner},
    family::text,
    model::Model,
    op::{Vid, Way},
};

impl Model {
    /// Learns the canonical IDs that were seen, if what was seen is what the model says.
    pub fn agrees(&mut self, seen: &[IdentityVendorIds]) -> bool {
        for (id, seen) in (0..IDS).zip(seen) {
            let Some(home) = self.home(id) else {
                if seen.canonical_id.is_empty() { continue } else { return false }
            };
            let own = &mut self.0[home];
            let name = own.name.get_or_insert_with(|| seen.canonical_id.as_str().into());
            let browser = Some(id).filter(|id| *id < BROWSERS);
            if name.is_empty() || **name != *seen.canonical_id || !has(own, browser, seen) {
                return false;
            }
        }
        self.tidy()
    }

    /// True where this is the answer to a canonical ID with a browser beside it.
    pub fn answers(&self, name: &str, browser: u8, seen: &IdentityVendorIds) -> bool {
        let Some(at) = self.0.iter().position(|own| own.name.as_deref() == Some(name)) else {
            return seen.canonical_id.is_empty();
        };
        let root = self.path(at).last().map(|root| &self.0[*root]);
        root.is_some_and(|root| {
            let browser = Some(browser).filter(|browser| root.links.contains_key(browser));
            root.name.as_deref() == Some(seen.canonical_id.as_str()) && has(root, browser, seen)
        })
    }

    /// True where the identity of an identifier is the person that was looked up: who belongs to them, in
    /// which way, and what each has brought.
    pub fn is(&self, family: &str, id: u8, person: &Person) -> bool {
        let text = |id: u8| text(family, id);
        let Some(own) = self.home(id).map(|home| &self.0[home]) else { return false };
        let told: BTreeMap<&str, &LinkedIdentifier> =
            person.identifiers.iter().map(|one| (one.value.as_str(), one)).collect();
        let is_told = |(id, way): (&u8, &Way)| {
            told.get(text(*id).as_str()).is_some_and(|one| {
                let brought = |field| one.vendor_ids.get(field).map(|id| id.value.clone());
                let living = |field| own.living(field, *id).map(|id| id.to_string());
                way.is_told_as(&one.via, own.has_user())
                    && FIELDS.iter().all(|field| brought(*field) == living(*field))
            })
        };
        let owners = |field: &str| person.vendor_ids.get(field).map(|id| (owner(id), id.value.clone()));
        let answer = |field: &str| {
            let named = |owner: Owner| owner.map(text);
            own.answer(field, None).map(|(owner, id)| (named(owner), id.to_string()))
        };
        own.name.as_deref() == Some(person.canonical_id.as_str())
            && told.len() == own.links.len()
            && own.links.iter().all(is_told)
            && FIELDS.iter().all(|field| owners(field) == answer(field))
    }

    /// Drops identities that came and went unseen, which can't be named any more, and puts the rest in order,
    /// so that states that are the same look the same. Answers false where two have the same name.
    fn tidy(&mut self) -> bool {
        let all = || self.0.iter().enumerate().filter_map(|(at, own)| Some((own.name.clone()?, at)));
        let (count, by_name) = (all().count(), all().collect::<BTreeMap<_, _>>());
        let places: BTreeMap<usize, usize> = by_name.values().copied().zip(0..).collect();
        let mut old = take(&mut self.0);
        for at in by_name.into_values() {
            let mut own = take(&mut old[at]);
            own.merged_into = own.merged_into.and_then(|into| places.get(&into).copied());
            self.0.push(own);
        }
        self.0.len() == count
    }
}

/// True where the vendor IDs that were seen are those that answer for the browser, or for the person.
fn has(own: &Canonical, browser: Option<u8>, seen: &IdentityVendorIds) -> bool {
    let seen_of = |field| seen.vendor_ids.get(field).map(|id| id.value.clone());
    let expected = |field| own.answer(field, browser).map(|(_, id): (Owner, Vid)| id.to_string());
    FIELDS.iter().all(|field| seen_of(*field) == expected(field))
}

/// The one whom Lookup names as the owner.
fn owner(id: &VendorId) -> Option<String> {
    id.anonymous_id.clone().or_else(|| id.user_id.clone())
}
