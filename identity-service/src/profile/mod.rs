//! Profile providers: CDPs whose attributes of a visitor are read, for whoever delivers events and for the visitor's page.

pub mod amperity;
mod candidates;
pub mod catalogue;
mod context;
mod counters;
mod entry;
mod finding;
mod in_context;
mod personalized;
pub mod plan;
mod profiles;
mod share;
pub mod visitor;

pub use self::{
    plan::{Kept, ProfilePlan, Provided},
    profiles::{Asking, Profile, Profiles},
    visitor::Visitor,
};
