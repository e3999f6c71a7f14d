//! The common part of enrichment and profiles: checks of settings that a customer writes.

pub mod duration;
pub mod endpoint;
pub mod fields;
pub mod headers;
pub mod json_path;
pub mod template;
pub mod validation;
