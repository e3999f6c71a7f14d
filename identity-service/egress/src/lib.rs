//! The one way out: calls to hosts that customers name, which must reach no host but public ones and those that the
//! operator has opened.

mod client;
pub mod openings;
mod resolver;
pub mod retry_after;
pub mod target;

pub use client::{Answer, CallError, Egress, Limits, Request, StartError};
