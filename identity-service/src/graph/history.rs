//! Record of what a merge moved, kept so that the merge can be undone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    identifiers::Identifier, storage::postgres::rows::VendorIdRow, sync::schedule::Attempt, vendors::owner,
};

/// The merged identity as it was, and what of the survivor's gave way to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The merged identity's identifiers.
    pub links: Vec<Identifier>,
    /// The merged identity's vendor IDs.
    pub vendor_ids: Vec<VendorIdRow>,
    /// The merged identity's sync schedules by vendor.
    pub attempts: BTreeMap<String, Attempt>,
    /// Canonical IDs that had been merged into the merged identity before.
    pub merged: Vec<Uuid>,
    /// The survivor's vendor IDs that gave way to newer ones.
    pub replaced_ids: Vec<VendorIdRow>,
    /// The survivor's schedules that gave way to later ones.
    pub replaced_attempts: BTreeMap<String, Attempt>,
}

impl Moved {
    /// Takes out vendor IDs that are `gone`, with the schedules of the syncs that brought them.
    pub fn forget(&mut self, gone: impl Fn(&VendorIdRow) -> bool) {
        let sides = [
            (&mut self.vendor_ids, &mut self.attempts),
            (&mut self.replaced_ids, &mut self.replaced_attempts),
        ];
        for (ids, attempts) in sides {
            for row in ids.extract_if(.., |row| gone(row)) {
                if let Some(vendor) = owner::synced_by(&row) {
                    attempts.remove(vendor);
                }
            }
        }
    }

    /// Takes out what `undone` had brought into what this merge moved, as the merge of `merged` is taken
    /// apart: what its vendor IDs and schedules stood in for comes back, so that a later undoing gives nobody
    /// what is another's. Where that is nothing, it is what gave way to this merge that comes back further
    /// out: `undone` says so then.
    pub fn without(&mut self, merged: Uuid, undone: &mut Self) {
        self.merged.retain(|id| *id != merged && !undone.merged.contains(id));
        self.links.retain(|id| !undone.links.contains(id));
        for row in &undone.vendor_ids {
            let Some(at) = self.vendor_ids.iter().position(|own| own.is_same(row)) else { continue };
            self.vendor_ids.remove(at);
            if let Some(before) = undone.replaced_ids.iter().find(|own| own.field == row.field) {
                self.vendor_ids.push(before.clone());
            } else if let Some(at) = self.replaced_ids.iter().position(|own| own.field == row.field) {
                undone.replaced_ids.push(self.replaced_ids.remove(at));
            }
        }
        for (vendor, attempt) in &undone.attempts {
            if self.attempts.get(vendor) != Some(attempt) {
                continue;
            }
            self.attempts.remove(vendor);
            if let Some(before) = undone.replaced_attempts.get(vendor) {
                self.attempts.insert(vendor.clone(), before.clone());
            } else if let Some(own) = self.replaced_attempts.remove(vendor) {
                undone.replaced_attempts.insert(vendor.clone(), own);
            }
        }
    }

    /// Takes out what `undone` had brought where it has given way to this merge since.
    pub fn replaced_without(&mut self, undone: &Self) {
        for row in &undone.vendor_ids {
            if let Some(at) = self.replaced_ids.iter().position(|own| own.is_same(row)) {
                self.replaced_ids.remove(at);
                let before = undone.replaced_ids.iter().find(|own| own.field == row.field);
                self.replaced_ids.extend(before.cloned());
            }
        }
        for (vendor, attempt) in &undone.attempts {
            if self.replaced_attempts.get(vendor) == Some(attempt) {
                self.replaced_attempts.remove(vendor);
                let before = undone.replaced_attempts.get(vendor);
                self.replaced_attempts.extend(before.map(|own| (vendor.clone(), own.clone())));
            }
        }
    }
}
