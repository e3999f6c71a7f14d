//! Vendors.

pub mod cookie_format;
pub mod enrichment;
pub mod enrichment_table;
pub mod generated;
pub mod owner;
pub mod sync;
pub mod sync_table;
pub mod sync_url;
