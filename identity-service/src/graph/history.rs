//! Record of what a merge moved, kept so that the merge can be undone.

use uuid::Uuid;

use crate::storage::postgres::clusters::Moved;

impl Moved {
    /// Takes out what `undone` had brought into what this merge moved, as the merge of `merged` is taken apart: a
    /// later undoing then takes nobody along who has gone before.
    pub fn without(&mut self, merged: Uuid, undone: &Self) {
        self.merged.retain(|id| *id != merged && !undone.merged.contains(id));
        self.links.retain(|id| !undone.links.contains(id));
    }
}
