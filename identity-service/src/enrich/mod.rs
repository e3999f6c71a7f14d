//! Server-proxied enrichment: a provider is asked for an ID of a visitor, with credentials that no browser sees.

pub mod config;
mod counters;
pub mod custom;
mod enriched_id;
pub mod enrichment;

pub use self::enrichment::{Asked, Enrichment, Outcome};
