//! Comparison of what was seen with what the model says.

use std::{collections::BTreeMap, mem::take};

use proto::v1::IdentityVendorIds;

use super::{
    FIELDS, IDS,
    model::{Canonical, Model},
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
            if name.is_empty() || **name != *seen.canonical_id || !has(own, seen) {
                return false;
            }
        }
        self.tidy()
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
            own.ids.sort_by_key(|(field, _)| *field);
            self.0.push(own);
        }
        self.0.len() == count
    }
}

/// True where the vendor IDs that were seen are those that the identity has.
fn has(own: &Canonical, seen: &IdentityVendorIds) -> bool {
    let seen_of = |field| seen.vendor_ids.get(field).map(|id| id.value.clone());
    let expected = |field| own.id(field).filter(|(lives, _)| *lives).map(|(_, id)| id.to_string());
    FIELDS.iter().all(|field| seen_of(*field) == expected(field))
}
