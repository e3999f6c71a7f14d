//! Consent: one function decides, for every use of a visitor's data alike.

pub mod fields;
mod signals;
mod unique;

pub use signals::{Decision, decide};
