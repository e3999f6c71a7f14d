//! Record of what a merge moved, kept so that the merge can be undone.

use uuid::Uuid;

use crate::storage::postgres::clusters::Moved;

impl Moved {
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
