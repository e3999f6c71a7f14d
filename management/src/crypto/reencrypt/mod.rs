//! Sealing everything of an organisation with the current key, while it is in use. What is to be done and how
//! far it has come is a row; each step is a transaction that does a batch and moves the row on, so that it
//! can be left anywhere and gone on with by any process that has the same current key.

pub mod command;
mod job;
mod step;
pub mod worker;

pub use self::job::{Job, Takeover, begin, find};
