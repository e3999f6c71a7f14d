//! Server-proxied enrichment: a provider is asked for an ID of a visitor, with credentials that no browser sees.

mod asking;
pub mod config;
mod counters;
pub mod custom;
mod enriched_id;
pub mod enrichment;
mod exchange;
mod outcome;
mod person;
mod plan;
mod request;
mod tools;
mod uid2;

pub use self::{
    enrichment::{Asked, Enrichment, Outcome},
    person::Person,
    tools::Tools,
};
