//! The common part of enrichment and profiles: checks of settings that a customer writes, requests made of them, and
//! what keeps one provider from holding up the others.

pub mod credentials;
pub mod duration;
pub mod endpoint;
pub mod fields;
pub mod gates;
pub mod headers;
pub mod json_path;
pub mod render;
pub mod retry_after;
pub mod single_flight;
pub mod template;
pub mod validation;
pub mod variables;
