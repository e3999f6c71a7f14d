//! Redis: connections to it, the names of its keys, and the protocol by which it follows PostgreSQL.

pub mod address;
pub mod client;
pub mod keys;
pub mod offers;
mod profiles;
pub mod protocol;
pub mod purge;
mod server;
mod state;
pub mod supervisor;
