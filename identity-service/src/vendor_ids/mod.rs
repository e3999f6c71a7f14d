//! Vendor IDs, whoever brings them: what is stored, what takes the place of what, the ledger and writer that every
//! producer shares, and the reading for delivery.

pub mod ledger;
pub mod precedence;
pub mod read;
pub mod stored;
pub mod writer;
