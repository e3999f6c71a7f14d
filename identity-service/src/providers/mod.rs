//! The common part of enrichment and profiles: checks of settings that a customer writes, requests made of them, and
//! what keeps one provider from holding up the others.

pub mod allowlist;
pub mod asking;
pub mod calling;
mod counters;
pub mod credentials;
pub mod dry_run;
pub mod duration;
mod echo;
pub mod endpoint;
pub mod exchange;
pub mod fields;
pub mod gates;
pub mod headers;
pub mod json_path;
pub mod outcome;
pub mod person;
pub mod plan;
pub mod render;
pub mod request_template;
pub mod single_flight;
mod status;
pub mod subject;
pub mod template;
mod tools;
pub mod uid2;
pub mod validation;
pub mod variables;

pub use self::{person::Person, status::Status, tools::Tools};
