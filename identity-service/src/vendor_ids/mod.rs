//! Vendor IDs, whoever brings them: what is stored and whose it is, what takes the place of what, the ledger and
//! writer that every producer shares, and the reading for delivery.

pub mod deliverable;
pub mod entries;
pub mod ledger;
pub mod new_id;
pub mod precedence;
pub mod read;
pub mod refresh;
pub mod schedules;
pub mod stored;
pub mod ties;
pub mod writer;
