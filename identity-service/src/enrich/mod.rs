//! Server-proxied enrichment: a provider is asked for an ID of a visitor, with credentials that no browser sees.

mod asking;
mod calling;
pub mod config;
mod counters;
pub mod custom;
mod dry_run;
mod echo;
mod enriched_id;
pub mod enrichment;
mod exchange;
mod outcome;
mod person;
mod plan;
mod request;
mod status;
mod subject;
mod tools;
mod uid2;

pub use self::{
    dry_run::{Depth, DryRun, Shown},
    enrichment::{Asked, Enrichment, Outcome},
    exchange::for_people,
    person::Person,
    status::Status,
    tools::Tools,
};
