//! IDs that are collected without asking a vendor: click IDs of page URLs, and IDs made in the vendor's own format,
//! which the browser keeps in the vendor's own cookie. Which there are, the vendors' records say.

pub mod click;
mod cookies;
pub mod observed;
mod plan;
mod store;
pub mod visit;
