//! People as the control plane sees them: looked up, exported, taken apart again, erased, and forgotten in the end.

pub mod document;
pub mod erase;
pub mod lookup;
pub mod reaper;
pub mod unmerge;
