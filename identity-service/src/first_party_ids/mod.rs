//! IDs that are collected without asking a vendor: click IDs of page URLs, and IDs made in the vendor's own format,
//! which the browser keeps in the vendor's own cookie. Two tables of records, [`click`] and [`generated`]; a new ID is
//! one record in one of them.

pub mod click;
mod cookies;
pub mod observed;
pub mod plan;
pub mod read;
pub mod store;
pub mod visit;

use std::collections::BTreeSet;

/// Names of all vendors whose click IDs can be collected, or whose IDs can be made.
pub fn vendors() -> BTreeSet<&'static str> {
    let clicks = click::CLICK_IDS.iter().map(|record| record.vendor);
    clicks.chain(crate::vendors::generated::GENERATED_IDS.iter().map(|record| record.vendor)).collect()
}
