//! Consent: one function decides, for every use of a visitor's data alike.

mod signals;
mod unique;

pub use signals::{Decision, decide};
