//! Blueprints: what an event is sent as. Pure functions from an event and what is known of it to a request, over data that
//! a customer can read and change.

pub mod amperity;
mod apply;
pub mod destination;
pub mod facts;
pub mod format;
pub mod json;
mod outcome;
pub mod path;
mod pii;
pub mod program;
pub mod proofs;
pub mod transform;
pub mod webhook;

pub use apply::{NotSent, Payload};
pub use outcome::Outcome;

#[cfg(test)]
mod tests;
