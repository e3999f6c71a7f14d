//! IDs that are collected without asking a vendor: click IDs of page URLs, and IDs made in the vendors' own
//! format.

mod click_ids;
mod generated_ids;
mod lifecycle;
mod support;
